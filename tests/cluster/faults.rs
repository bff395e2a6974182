//! What is done to the parts of a run, and when (pure).

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::name::{Act, Kind, Name};
use crate::options::Options;

/// What is done so long after the start.
pub(crate) type Timed = (Duration, Act, Name);

/// How long a part that was killed stays away, in ms: so that it is missed now and then.
const AWAY_MS: std::ops::Range<u64> = 50..3000;

/// What is left of the run after the last kill, for what follows from it under load.
const CALM: f64 = 0.9;

/// As many kills as the options say, of parts that the seed chooses, spread over the run; each is started again.
pub(crate) fn schedule(options: &Options) -> Vec<Timed> {
    let Some(long) = options.run_for else { return Vec::new() };
    let mut rng = StdRng::seed_from_u64(options.seed);
    let may_die = |name: &Name| {
        matches!(name.kind, Kind::Postgres | Kind::Nsqd | Kind::Dashboard | Kind::Process)
    };
    let parts: Vec<Name> = options.parts().into_iter().filter(may_die).collect();
    let mut faults = Vec::new();
    let mut free_at = Duration::ZERO;
    for kill in 0..options.kills {
        // One after the other: what is killed is back before the next one dies.
        let due = long.mul_f64(CALM * (kill as f64 + rng.random::<f64>()) / options.kills as f64);
        let due = due.max(free_at);
        let name = parts[rng.random_range(0..parts.len())];
        free_at = due + Duration::from_millis(rng.random_range(AWAY_MS));
        faults.push((due, Act::Kill, name));
        faults.push((free_at, Act::Start, name));
    }
    faults
}

/// One nsqd, one processor and the database are killed, once each.
pub(crate) fn once_each(_: &Options) -> Vec<Timed> {
    let at = Duration::from_millis;
    let victims = [Name::new(Kind::Nsqd, 2), Name::new(Kind::Process, 1), Name::POSTGRES];
    let fault = |(index, name): (u64, Name)| {
        [(at(2000 * index), Act::Kill, name), (at(2000 * index + 500), Act::Start, name)]
    };
    (1..).zip(victims).flat_map(fault).collect()
}

/// The machine of one processor is cut off for longer than its messages may be in flight.
pub(crate) fn one_cut(_: &Options) -> Vec<Timed> {
    let at = Duration::from_millis;
    let name = Name::new(Kind::Process, 2);
    vec![(at(1000), Act::Cut, name), (at(8000), Act::Start, name)]
}
