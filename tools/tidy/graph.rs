//! Graphs of small numbers: what goes in circles, and how high it is stacked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Who points at whom.
pub(crate) type Arrows = BTreeMap<usize, BTreeSet<usize>>;

/// The knots: sets of more than one node in which each reaches each other.
pub(crate) fn knots(arrows: &Arrows) -> Vec<Vec<usize>> {
    let reached: BTreeMap<usize, BTreeSet<usize>> =
        arrows.keys().map(|&from| (from, reach(arrows, from))).collect();
    let mut knots: Vec<Vec<usize>> = Vec::new();
    for (&node, to) in &reached {
        let mutual = |other: &usize| reached.get(other).is_some_and(|back| back.contains(&node));
        let knot: Vec<usize> = to.iter().copied().filter(mutual).collect();
        if knot.len() > 1 && !knots.contains(&knot) {
            knots.push(knot);
        }
    }
    knots
}

/// All that `from` leads to; itself only where a circle leads back.
fn reach(arrows: &Arrows, from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(node) = next.pop() {
        next.extend(
            arrows.get(&node).into_iter().flatten().copied().filter(|&to| reached.insert(to)),
        );
    }
    reached
}

/// The shortest way from a node of the knot back to itself, without its end.
pub(crate) fn shortest_circle(arrows: &Arrows, knot: &[usize]) -> Vec<usize> {
    let circles = knot.iter().filter_map(|&start| circle(arrows, start));
    circles.min_by_key(Vec::len).unwrap_or_default()
}

fn circle(arrows: &Arrows, start: usize) -> Option<Vec<usize>> {
    let mut came: BTreeMap<usize, usize> = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(node) = next.pop_front() {
        for &to in arrows.get(&node).into_iter().flatten() {
            if to == start {
                let mut way = vec![node];
                while way[way.len() - 1] != start {
                    way.push(came[&way[way.len() - 1]]);
                }
                way.reverse();
                return Some(way);
            }
            if let std::collections::btree_map::Entry::Vacant(entry) = came.entry(to) {
                entry.insert(node);
                next.push_back(to);
            }
        }
    }
    None
}

/// The fewest floors on which each arrow points downwards, the highest first; what is in one knot shares a floor.
pub(crate) fn floors(arrows: &Arrows, nodes: impl Iterator<Item = usize>) -> Vec<Vec<usize>> {
    let knots = knots(arrows);
    let place =
        |node: usize| knots.iter().find(|knot| knot.contains(&node)).map_or(node, |knot| knot[0]);
    let mut merged = Arrows::new();
    for (&from, to) in arrows {
        let to = to.iter().map(|&to| place(to)).filter(|&to| to != place(from));
        merged.entry(place(from)).or_default().extend(to);
    }
    let mut heights = BTreeMap::new();
    let mut floors: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for node in nodes {
        floors.entry(depth(&merged, place(node), &mut heights)).or_default().push(node);
    }
    floors.into_values().rev().collect()
}

fn depth(arrows: &Arrows, node: usize, heights: &mut BTreeMap<usize, usize>) -> usize {
    if let Some(&known) = heights.get(&node) {
        return known;
    }
    let below = arrows.get(&node).into_iter().flatten().map(|&to| depth(arrows, to, heights)).max();
    let height = 1 + below.unwrap_or(0);
    heights.insert(node, height);
    height
}
