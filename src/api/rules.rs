//! Admission rules that several fields share. Each refuses with a sentence that says what is allowed: the API server's own
//! refusal of a pattern shows the bare expression.
//!
//! Every field they stand on has a bound on its length, which keeps the server's estimate of their cost finite.

use kube::core::Rule;

fn matches(pattern: &str, message: &str) -> Rule {
    Rule::new(format!("self.matches('{pattern}')")).message(message)
}

/// Name of a stage or profile: part of the names of children and of variables.
pub fn part_name() -> Rule {
    matches(
        "^[a-z]([a-z0-9]|-[a-z0-9])*$",
        "must be lower-case letters, digits and single dashes, begin with a letter and not end with a dash, such as 'tool-use'",
    )
}

/// Name of a port.
pub fn port_name() -> Rule {
    matches(
        "^([a-z0-9]+-)*[a-z0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$",
        "must be lower-case letters, digits and single dashes, with at least one letter, such as 'http'",
    )
}

/// Name of a volume.
pub fn label_name() -> Rule {
    matches(
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "must be lower-case letters, digits and dashes, beginning and ending with a letter or digit, such as 'model-cache'",
    )
}

/// Name of another object. In parts: one long expression would cost more than the server allows for variables.
pub fn object_name() -> Rule {
    Rule::new("self.matches('^[-.a-z0-9]+$') && !self.startsWith('-') && !self.startsWith('.') && !self.endsWith('-') && !self.endsWith('.')").message(
        "must be the name of an object: lower-case letters, digits, dashes and dots, beginning and ending with a letter or digit",
    )
}

/// A hardware class.
pub fn class() -> Rule {
    matches(
        "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        "must be lower-case letters, digits, dashes and dots, beginning and ending with a letter or digit, such as 'nvidia-l4'",
    )
}

/// A key within a ConfigMap or Secret.
pub fn data_key() -> Rule {
    matches(
        "^[-._a-zA-Z0-9]+$",
        "must be letters, digits, '-', '_' and '.', such as 'api-key'",
    )
}

/// An environment variable.
pub fn variable_name() -> Rule {
    matches(
        "^[A-Za-z_][A-Za-z0-9_.-]*$",
        "must be letters, digits, '_', '-' and '.', and not begin with a digit, such as 'LOG_LEVEL'",
    )
}

/// An image reference: no white space, nothing outside ASCII.
pub fn image() -> Rule {
    matches(
        "^[a-zA-Z0-9][-a-zA-Z0-9._:/@]*$",
        "must be an image reference such as 'ghcr.io/acme/guard:1.4', without white space",
    )
}

/// A path of an HTTP request.
pub fn http_path() -> Rule {
    matches(
        "^/[!-~]*$",
        "must begin with '/' and hold no white space, such as '/healthz'",
    )
}

/// The extended resource of a device.
pub fn device() -> Rule {
    matches(
        "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        "must be a domain, '/' and a name, such as 'nvidia.com/gpu'",
    )
}

/// Key of a label or taint.
pub fn label_key() -> Rule {
    matches(
        "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        "must be a name, or a domain, '/' and a name, such as 'nvidia.com/gpu'",
    )
}

/// Keys of a map of labels.
pub fn label_keys() -> Rule {
    Rule::new("self.all(k, k.size() <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$'))")
        .message("keys must be a name, or a domain, '/' and a name, such as 'node.kubernetes.io/instance-type'")
}

/// Value of a label or taint.
pub fn label_value() -> Rule {
    matches(
        "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        "must be letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, or empty",
    )
}

/// A quantity without sign or exponent.
pub fn quantity() -> Rule {
    Rule::new("type(self) == int || self.matches('^[0-9]{1,15}([.][0-9]{1,9})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$')")
        .message("must be a quantity such as '500m', '4Gi' or 1: digits, and 'm', 'k', 'M', 'G', 'T', 'Ki', 'Mi', 'Gi' or 'Ti' after them")
}

/// Names in a map of resources.
pub fn resource_names() -> Rule {
    Rule::new("self.all(k, k in ['cpu', 'memory', 'ephemeral-storage'] || k.matches('^(hugepages-[0-9]+[KMG]i|[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)$'))")
        .message("must name 'cpu', 'memory', 'ephemeral-storage', 'hugepages-2Mi' and the like, or a device such as 'nvidia.com/gpu'")
}

/// A decimal that is not zero; beside the form, which `Decimal` brings.
pub fn positive() -> Rule {
    Rule::new("!self.matches('^[0.]+$')").message("must be greater than zero, such as '0.25' or '12'")
}

/// Name of a preset. Which ones there are the operator says: administrators add their own.
pub fn preset() -> Rule {
    matches(
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "must be the name of a preset: lower-case letters, digits and dashes, beginning and ending with a letter or digit, such as 'vllm'",
    )
}

/// A preset beside the main one: pods are read by one preset at most.
pub fn not_scraped() -> Rule {
    Rule::new("!(self in ['vllm', 'llamacpp', 'sglang', 'trtllm', 'triton', 'tgi', 'rayserve', 'http'])").message(
        "must not be a preset that is read from the pods themselves, which are read by `signal.preset`: use 'cpu', 'dcgm', 'psi' or one that the administrator has added",
    )
}
