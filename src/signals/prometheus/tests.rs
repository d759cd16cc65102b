mod client;
mod presets;
mod question;
mod template;
