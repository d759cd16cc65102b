mod client;
mod question;
mod template;
