//! The two text formats that scrapers ask for.

use std::{borrow::Cow, fmt::Write as _};

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Text,
}

impl Exposition {
    /// What an `Accept` header asks for. OpenMetrics, unless plain text is asked for with more weight.
    pub fn accepted(header: Option<&str>) -> Self {
        let weight = |wanted: &str| {
            let ranges = header.unwrap_or_default().split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let quality = |part: &str| part.strip_prefix("q=").and_then(|value| value.parse::<f32>().ok());
                (parts.next() == Some(wanted)).then(|| parts.find_map(quality).unwrap_or(1.0))
            });
            ranges.fold(0.0, f32::max)
        };
        if weight("text/plain") > weight("application/openmetrics-text") {
            Self::Text
        } else {
            Self::OpenMetrics
        }
    }

    /// Value of the `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Our own OpenMetrics as text 0.0.4: families are named as their samples are, `info` is a gauge, no units, no end mark.
/// Exemplars are not written by us, so none have to be cut.
pub(super) fn text_from_openmetrics(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    // The help line comes before the type that decides the name.
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (name, kind) = match kind {
                "counter" => (Cow::from(format!("{name}_total")), kind),
                "info" => (Cow::from(format!("{name}_info")), "gauge"),
                "unknown" => (Cow::from(name), "untyped"),
                _ => (Cow::from(name), kind),
            };
            if let Some((_, sentence)) = help.take() {
                let _ = writeln!(text, "# HELP {name} {sentence}");
            }
            let _ = writeln!(text, "# TYPE {name} {kind}");
        } else if !line.starts_with("# ") {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_the_accept_header() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        let table = [
            (None, Exposition::OpenMetrics),
            (Some("*/*"), Exposition::OpenMetrics),
            (Some("text/plain"), Exposition::Text),
            (Some("text/plain; version=0.0.4"), Exposition::Text),
            (
                Some("text/plain, application/openmetrics-text"),
                Exposition::OpenMetrics,
            ),
            (
                Some("application/openmetrics-text;q=0.2, text/plain;q=0.9"),
                Exposition::Text,
            ),
            (Some(prometheus), Exposition::OpenMetrics),
            (Some("text/html;;;q=abc,,"), Exposition::OpenMetrics),
        ];
        for (header, expected) in table {
            assert_eq!(Exposition::accepted(header), expected, "{header:?}");
        }
    }

    #[test]
    fn families_are_renamed_to_their_samples() {
        let openmetrics = "# HELP a_seconds Time.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
                           a_seconds_sum 1.0\na_seconds_count 1\na_seconds_bucket{le=\"+Inf\"} 1\n\
                           # HELP b Calls.\n# TYPE b counter\nb_total{verb=\"get\"} 2\n\
                           # HELP c Build.\n# TYPE c info\nc_info{version=\"1\"} 1\n# EOF\n";
        let text = "# HELP a_seconds Time.\n# TYPE a_seconds histogram\n\
                    a_seconds_sum 1.0\na_seconds_count 1\na_seconds_bucket{le=\"+Inf\"} 1\n\
                    # HELP b_total Calls.\n# TYPE b_total counter\nb_total{verb=\"get\"} 2\n\
                    # HELP c_info Build.\n# TYPE c_info gauge\nc_info{version=\"1\"} 1\n";
        assert_eq!(text_from_openmetrics(openmetrics), text);
    }
}
