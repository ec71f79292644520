//! Parts of the queries, so that a mean does not hide for whom a model is good: by how popular what was relevant is, by how long the
//! history is, and those about which nothing was known. Pure: it divides queries, and knows nothing of metrics or rankers.

use super::protocol::Query;

/// Deciles of popularity.
const DECILES: usize = 10;
/// The longest history of each band but the last.
const HISTORY_BANDS: [usize; 5] = [0, 5, 20, 50, 100];

/// What is divided.
pub(super) struct Sliced<'a> {
    /// By query: how many items the history had.
    pub(super) history_lengths: &'a [usize],
    /// By query: places in the catalog of the relevant items; at least one.
    pub(super) relevant: &'a [&'a [u32]],
    /// Training positives by item, `[catalog]`.
    pub(super) popularity: &'a [f32],
}

/// Some of the queries.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    /// What queries are divided by: `popularity decile`, `history length`, `cold items`, `cold users`, `objective`.
    pub(super) group: &'static str,
    /// Which of them: `d1`, `6 to 20`, `cold`.
    pub(super) name: String,
    /// Which relevant items of which queries count, by ascending query; a query without any is not named.
    pub(super) members: Vec<Member>,
}

/// A query of a part.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    /// Its place among the queries.
    pub(super) query: usize,
    /// Places among its relevant items of those that count in this part, ascending.
    pub(super) relevant: Vec<usize>,
}

/// All parts, empty ones too. Those by item (`popularity decile`, `cold items`) hold of each query the relevant items that belong to
/// them, so that a query with popular and rare relevant items is in both parts, each time with its own; those by user hold whole queries.
/// Within a group every relevant item of every query is in exactly one part, except that items without training positives, which have no
/// decile, are in `cold items` alone.
pub(super) fn parts(sliced: &Sliced<'_>) -> Vec<Part> {
    let deciles = deciles(sliced.popularity);
    let cold = |item: u32| usize::from(sliced.popularity[item as usize] > 0.0);
    let decile_names = (1..=DECILES).map(|decile| format!("d{decile}"));
    let warmth = || ["cold", "warm"].map(str::to_owned).into_iter();
    let mut parts = by_item("popularity decile", decile_names, sliced, |item| deciles[item as usize]);
    parts.extend(by_user("history length", band_names().into_iter(), sliced, band));
    parts.extend(by_item("cold items", warmth(), sliced, |item| Some(cold(item))));
    parts.extend(by_user("cold users", warmth(), sliced, |length| usize::from(length > 0)));
    parts
}

/// One part: of each query the relevant items with which its user has an event that counts.
pub(super) fn of_events(group: &'static str, name: &str, queries: &[Query], counts: impl Fn(&u8) -> bool) -> Part {
    let member = |(query, of): (usize, &Query)| {
        let relevant: Vec<usize> = (0..of.relevant.len()).filter(|&at| of.events[at].iter().any(&counts)).collect();
        (!relevant.is_empty()).then_some(Member { query, relevant })
    };
    Part { group, name: name.to_owned(), members: queries.iter().enumerate().filter_map(member).collect() }
}

/// By item the decile from 0, `[catalog]`: items in descending popularity, ties by the smaller place, are cut where each tenth of all training
/// positives is reached, so that d1 is the few most popular items and every decile has about as many positives. An
/// item is in the decile in which the middle of its own positives lies. None for items without positives.
pub(super) fn deciles(popularity: &[f32]) -> Vec<Option<usize>> {
    let mut order: Vec<usize> = (0..popularity.len()).filter(|&item| popularity[item] > 0.0).collect();
    order.sort_by(|&a, &b| popularity[b].total_cmp(&popularity[a]));
    let all: f64 = order.iter().map(|&item| f64::from(popularity[item])).sum();
    let mut deciles = vec![None; popularity.len()];
    let mut before = 0.0;
    for item in order {
        let own = f64::from(popularity[item]);
        let middle = (before + own / 2.0) / all;
        deciles[item] = Some(((middle * DECILES as f64) as usize).min(DECILES - 1));
        before += own;
    }
    deciles
}

fn by_item(
    group: &'static str,
    names: impl Iterator<Item = String>,
    sliced: &Sliced<'_>,
    part_of: impl Fn(u32) -> Option<usize>,
) -> Vec<Part> {
    let mut parts = empty(group, names);
    for (query, relevant) in sliced.relevant.iter().enumerate() {
        for (at, &item) in relevant.iter().enumerate() {
            let Some(part) = part_of(item) else { continue };
            let members = &mut parts[part].members;
            match members.last_mut().filter(|member| member.query == query) {
                Some(member) => member.relevant.push(at),
                None => members.push(Member { query, relevant: vec![at] }),
            }
        }
    }
    parts
}

fn by_user(
    group: &'static str,
    names: impl Iterator<Item = String>,
    sliced: &Sliced<'_>,
    part_of: impl Fn(usize) -> usize,
) -> Vec<Part> {
    let mut parts = empty(group, names);
    for (query, (&length, relevant)) in sliced.history_lengths.iter().zip(sliced.relevant).enumerate() {
        parts[part_of(length)].members.push(Member { query, relevant: (0..relevant.len()).collect() });
    }
    parts
}

fn empty(group: &'static str, names: impl Iterator<Item = String>) -> Vec<Part> {
    names.map(|name| Part { group, name, members: Vec::new() }).collect()
}

fn band(length: usize) -> usize {
    HISTORY_BANDS.iter().position(|&longest| length <= longest).unwrap_or(HISTORY_BANDS.len())
}

fn band_names() -> Vec<String> {
    let band = |pair: &[usize]| format!("{} to {}", pair[0] + 1, pair[1]);
    let bands = HISTORY_BANDS.windows(2).map(band);
    let last = format!("above {}", HISTORY_BANDS[HISTORY_BANDS.len() - 1]);
    ["none".to_owned()].into_iter().chain(bands).chain([last]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(query: usize, relevant: &[usize]) -> Member {
        Member { query, relevant: relevant.to_vec() }
    }

    fn members(parts: &[Part], group: &str, name: &str) -> Vec<Member> {
        let found: Vec<&Part> = parts.iter().filter(|part| part.group == group && part.name == name).collect();
        assert_eq!(found.len(), 1, "{group} {name}");
        found[0].members.clone()
    }

    #[test]
    fn deciles_are_of_positives_not_of_items() {
        // 100 positives: item 3 has half of them, twenty-five items two each, and two none.
        let mut popularity = vec![2.0; 28];
        popularity[3] = 50.0;
        (popularity[0], popularity[27]) = (0.0, 0.0);
        let found = deciles(&popularity);
        assert_eq!((found[0], found[27], found[3]), (None, None, Some(2)));
        let count = |decile| found.iter().filter(|&&d| d == Some(decile)).count();
        assert_eq!((0..10).map(count).collect::<Vec<_>>(), [0, 0, 1, 0, 0, 5, 5, 5, 5, 5]);
        // Ties by the smaller place.
        assert_eq!((found[1], found[26]), (Some(5), Some(9)));
    }

    #[test]
    fn equally_popular_items_fill_the_deciles_alike() {
        let found = deciles(&[3.0; 50]);
        assert_eq!(found, (0..50).map(|item| Some(item / 5)).collect::<Vec<_>>());
        assert_eq!(deciles(&[0.0, 0.0]), [None, None]);
    }

    #[test]
    fn a_query_is_divided_by_its_items_and_kept_whole_by_its_user() {
        let popularity: Vec<f32> = (0..11).map(|item| if item == 10 { 0.0 } else { 1.0 }).collect();
        let relevant: [&[u32]; 3] = [&[9, 0, 10], &[10], &[0]];
        let parts = parts(&Sliced { history_lengths: &[6, 0, 101], relevant: &relevant, popularity: &popularity });
        let of = |group, name| members(&parts, group, name);
        assert_eq!(of("popularity decile", "d1"), [member(0, &[1]), member(2, &[0])]);
        assert_eq!(of("popularity decile", "d10"), [member(0, &[0])]);
        assert_eq!(of("popularity decile", "d5"), []);
        assert_eq!(of("cold items", "cold"), [member(0, &[2]), member(1, &[0])]);
        assert_eq!(of("cold items", "warm"), [member(0, &[0, 1]), member(2, &[0])]);
        assert_eq!(of("cold users", "cold"), [member(1, &[0])]);
        assert_eq!(of("history length", "none"), [member(1, &[0])]);
        assert_eq!(of("history length", "6 to 20"), [member(0, &[0, 1, 2])]);
        assert_eq!(of("history length", "above 100"), [member(2, &[0])]);
    }

    #[test]
    fn an_objective_has_the_items_of_its_events() {
        let query = |events: &[&[u8]]| Query {
            relevant: vec![7; events.len()],
            events: events.iter().map(|of_item| of_item.to_vec()).collect(),
            ..Query::of_user(0, &[])
        };
        let queries = [query(&[&[0], &[0, 1]]), query(&[&[0]]), query(&[&[1]])];
        let part = of_events("objective", "buy", &queries, |&event| event == 1);
        assert_eq!(part.members, [member(0, &[1]), member(2, &[0])]);
    }

    #[test]
    fn bands_meet_without_gaps() {
        assert_eq!(band_names(), ["none", "1 to 5", "6 to 20", "21 to 50", "51 to 100", "above 100"]);
        assert_eq!([0, 1, 5, 6, 20, 21, 100, 101].map(band), [0, 1, 1, 2, 2, 3, 4, 5]);
    }
}
