//! Numbers as people read them.

/// Stands for what there is no number of.
pub(super) const NONE: &str = "–";

/// A metric in 0 to 1, with four decimals.
pub(super) fn metric(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { NONE.into() }
}

/// A share as per cent: two decimals below 10 %, for sources that are small on purpose.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent.abs() {
        p if !p.is_finite() => NONE.into(),
        0.0 => "0 %".into(),
        p if p < 0.01 => "< 0.01 %".into(),
        p if p < 9.995 => format!("{percent:.2} %"),
        _ => format!("{percent:.1} %"),
    }
}

/// By how much a value is above another, signed.
pub(super) fn gain(value: f64, other: f64) -> Option<String> {
    let gain = (value / other - 1.0) * 100.0;
    (other > 0.0 && gain.is_finite()).then(|| format!("{}{:.1} %", if gain < 0.0 { "−" } else { "+" }, gain.abs()))
}

/// Seconds, as `0.8 s`, `42 s`, `3 m 07 s` or `2 h 05 m`.
pub(super) fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        s if !s.is_finite() => NONE.into(),
        s if s < 9.95 => format!("{s:.1} s"),
        _ if whole < 60 => format!("{whole} s"),
        _ if whole < 3600 => format!("{} m {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} m", whole / 3600, whole % 3600 / 60),
    }
}

/// A count, in groups of three digits.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number beside an axis whose ticks are `step` apart.
pub(super) fn tick(value: f64, step: f64) -> String {
    match step {
        s if value == 0.0 && s >= 1.0 => "0".into(),
        s if s >= 1e6 => format!("{}M", value / 1e6),
        s if s >= 1e3 => format!("{}k", value / 1e3),
        s if s < 1e-4 && value != 0.0 => power(value),
        s => format!("{:.*}", (-s.log10().floor()).max(0.0) as usize, value + 0.0),
    }
}

/// As `2·10⁻⁵`, or `10⁻⁵`.
pub(super) fn power(value: f64) -> String {
    let exponent = (value.abs().log10() + 1e-9).floor();
    let factor = value / 10_f64.powf(exponent);
    let raised: String = format!("{exponent:.0}").chars().map(superscript).collect();
    if (factor - 1.0).abs() < 1e-6 {
        format!("10{raised}")
    } else {
        format!("{}·10{raised}", (factor * 10.0).round() / 10.0)
    }
}

fn superscript(digit: char) -> char {
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    digit.to_digit(10).map_or('⁻', |digit| RAISED[digit as usize])
}

/// Metrics in the order of reading: recall, ndcg, hit rate, the rest, each by ascending k.
pub(super) fn metric_order(name: &str) -> (usize, u64, &str) {
    const FAMILIES: [&str; 3] = ["recall", "ndcg", "hit_rate"];
    let (family, k) = name.split_once("_at_").unwrap_or((name, ""));
    let rank = FAMILIES.iter().position(|&known| known == family).unwrap_or(FAMILIES.len());
    (rank, k.parse().unwrap_or(0), name)
}

/// The k of `recall_at_k`.
pub(super) fn recall_k(name: &str) -> Option<f64> {
    name.strip_prefix("recall_at_")?.parse().ok().filter(|&k| k > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0.0, 0.00005, 0.002, 0.0999, 0.5].map(percent), ["0 %", "< 0.01 %", "0.20 %", "9.99 %", "50.0 %"]);
        assert_eq!([0.84, 42.4, 187.0, 7500.0].map(seconds), ["0.8 s", "42 s", "3 m 07 s", "2 h 05 m"]);
        assert_eq!([7, 1000, 1_234_567].map(count), ["7", "1,000", "1,234,567"]);
        assert_eq!(
            (tick(0.25, 0.05), tick(12_000.0, 2000.0), tick(-0.0, 1.0)),
            ("0.25".into(), "12k".into(), "0".into())
        );
        assert_eq!((power(2e-5), power(1e-12), power(1000.0)), ("2·10⁻⁵".into(), "10⁻¹²".into(), "10³".into()));
        assert_eq!((gain(0.11, 0.1), gain(0.1, 0.0)), (Some("+10.0 %".into()), None));
        assert_eq!(
            (metric(f64::NAN), percent(f64::NAN), seconds(f64::INFINITY)),
            (NONE.into(), NONE.into(), NONE.into())
        );
    }

    #[test]
    fn metrics_are_read_by_family_and_k() {
        let mut names = ["coverage_at_100", "ndcg_at_20", "recall_at_100", "recall_at_20"];
        names.sort_by_key(|name| metric_order(name));
        assert_eq!(names, ["recall_at_20", "recall_at_100", "ndcg_at_20", "coverage_at_100"]);
        assert_eq!((recall_k("recall_at_50"), recall_k("ndcg_at_50")), (Some(50.0), None));
    }
}
