//! Ticks, and how numbers and times are written.

/// Values from 0 to at least `most`, 1, 2 or 5 times a power of ten apart.
pub(super) fn ticks(most: f64) -> Vec<f64> {
    if !(most.is_finite() && most > 0.0) {
        return vec![0.0, 1.0];
    }
    let rough = most / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|s| *s >= rough * 0.999)
        .unwrap_or(rough);
    let mut values = vec![0.0];
    let mut count = 0.0;
    while values.last().is_some_and(|v| *v < most * 0.999) {
        count += 1.0;
        values.push(count * step);
    }
    values
}

/// 1, 2 and 5 times powers of ten from at most `low` to at least `high`; powers alone when there are many.
pub(crate) fn decade_ticks(low: f64, high: f64) -> Vec<f64> {
    let steps: &[f64] = if high / low > 2e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let mut values: Vec<f64> = Vec::new();
    let mut power = 10_f64.powf(low.log10().floor());
    while values.last().is_none_or(|v| *v < high * 0.999) && values.len() < 40 {
        for step in steps {
            let value = power * step;
            // A tick that another one above `low` replaces is not needed.
            if value <= low * 1.001 {
                values.clear();
            }
            if values.last().is_none_or(|v| *v < high * 0.999) {
                values.push(value);
            }
        }
        power *= 10.0;
    }
    values
}

/// Seconds between the ticks of a time axis that holds at most so many.
pub(super) fn time_step(span_s: f64, most: f64) -> f64 {
    let steps = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0,
    ];
    steps
        .into_iter()
        .find(|s| span_s / s <= most.max(2.0))
        .unwrap_or(86_400.0)
}

/// Minutes and seconds.
pub(super) fn clock(t_s: f64) -> String {
    let sign = if t_s < -0.5 { "\u{2212}" } else { "" };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, which is fine for a label
    let s = t_s.abs().round() as u64;
    format!("{sign}{}:{:02}", s / 60, s % 60)
}

/// A number with as many digits as it needs, thousands grouped.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    let digits = if magnitude >= 100.0 || value.fract().abs() < 1e-9 {
        0
    } else if magnitude >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{magnitude:.digits$}");
    let (whole, fraction) = text
        .split_once('.')
        .map_or((text.as_str(), ""), |(w, f)| (w, f.trim_end_matches('0')));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if value < 0.0 { "\u{2212}" } else { "" };
    if fraction.is_empty() {
        format!("{sign}{grouped}")
    } else {
        format!("{sign}{grouped}.{fraction}")
    }
}

/// Text as HTML.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// What stands for a value that is not known.
pub(super) fn dash() -> String {
    "\u{2013}".to_owned()
}

/// US dollars.
pub(super) fn dollars(value: f64) -> String {
    let digits = if value.abs() < 0.1 { 4 } else { 2 };
    format!("${value:.digits$}")
}

/// A count.
#[allow(clippy::cast_precision_loss)] // counts stay far below 2^53
pub(super) fn whole(value: u64) -> String {
    number(value as f64)
}
