//! The thread of one nsqlookupd, `broker-lookup`: registers what there is, then what changes, pings, and connects again.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select};
use nsq_protocol::TopicName;
use nsq_protocol::thread::{OwnedThread, StopToken, stop_pair};

use super::link::LookupdLink;
use super::peer::Peer;
use super::registry::RunningLink;
use super::wire::{LookupCommand, Node};
use crate::broker::core::{Registration, RegistrationChange};
use crate::broker::hub::Hub;

/// How often an nsqlookupd hears of us, as from nsqd: within it a lost connection is found.
const PING_EVERY: Duration = Duration::from_secs(15);

/// The wait behind the first attempt that failed; it doubles up to [`PING_EVERY`].
const RETRY: Duration = Duration::from_millis(500);

/// Commands that are sent before their answers are read.
const CHUNK: usize = 64;

/// Registers with these nsqlookupds from now on, and with no others. Those that were there already keep their connection.
///
/// # Errors
/// The system refuses a thread; the others go on.
pub(in crate::broker) fn register_with(hub: &Arc<Hub>, addresses: &[String]) -> io::Result<()> {
    hub.lookupds.set(addresses, |node, address| start(hub, node, address))
}

fn start(hub: &Arc<Hub>, node: Arc<Node>, address: String) -> io::Result<RunningLink> {
    let (link, woken) = LookupdLink::new(address);
    let (stop, token) = stop_pair();
    let thread = {
        let (hub, link) = (Arc::clone(hub), Arc::clone(&link));
        OwnedThread::spawn("broker-lookup", move || run(&link, &hub, &node, &woken, &token))?
    };
    Ok(RunningLink::new(link, stop, thread))
}

/// The body of the thread.
fn run(link: &LookupdLink, hub: &Hub, node: &Node, woken: &Receiver<()>, stop: &StopToken) {
    let mut wait = RETRY;
    let mut is_told = false;
    while !stop.is_stopped() {
        let failed = match registered(link, hub, node, stop) {
            Ok(mut peer) => {
                let (address, version) = (&link.address, peer.info.version());
                log::info!("broker: registered with nsqlookupd {address}, version {version}");
                (wait, is_told) = (RETRY, false);
                match serve(link, hub, &mut peer, woken, stop) {
                    // Stopped, or told everything anew, at once.
                    Ok(()) => continue,
                    Err(error) => error,
                }
            }
            Err(error) => {
                // Only now: one that was restarted is back before it is missed.
                link.set_reached(None);
                error
            }
        };
        let level = if is_told { log::Level::Debug } else { log::Level::Warn };
        is_told = true;
        log::log!(
            level,
            "broker: not registered with nsqlookupd {} (--lookupd-tcp-address): {failed}; tries again",
            link.address
        );
        if stop.wait(wait) {
            return;
        }
        wait = (2 * wait).min(PING_EVERY);
    }
}

/// Connects and registers all there is.
fn registered(
    link: &LookupdLink,
    hub: &Hub,
    node: &Node,
    stop: &StopToken,
) -> Result<Peer, String> {
    let mut peer = Peer::connect(&link.address, node)?;
    link.set_reached(Some(peer.info.http_address()));
    // What changes from here on is told behind what there is now.
    link.take_changes();
    let all = hub.with_core(|core| core.registrations());
    for part in all.chunks(CHUNK) {
        if stop.is_stopped() {
            break;
        }
        let commands: Vec<_> = part.iter().map(LookupCommand::Register).collect();
        peer.send(&commands)?;
    }
    Ok(peer)
}

/// Tells what changes, until stopped, or until everything must be told anew.
fn serve(
    link: &LookupdLink,
    hub: &Hub,
    peer: &mut Peer,
    woken: &Receiver<()>,
    stop: &StopToken,
) -> Result<(), String> {
    let mut ping_at = Instant::now() + PING_EVERY;
    loop {
        select! {
            recv(stop.channel()) -> _ => return Ok(()),
            recv(woken) -> _ => {
                let Some(changes) = link.take_changes() else { return Ok(()) };
                for part in changes.chunks(CHUNK) {
                    if stop.is_stopped() {
                        return Ok(());
                    }
                    peer.send(&commands(part, &present(hub, part)))?;
                }
            }
            recv(crossbeam_channel::at(ping_at)) -> _ => {
                peer.send(&[LookupCommand::Ping])?;
                ping_at = Instant::now() + PING_EVERY;
            }
        }
    }
}

/// What there is now, of what has changed.
struct Present {
    /// For each change.
    is_there: Vec<bool>,
    /// The channels of topics that were deleted and are there again.
    channels: Vec<Registration>,
}

/// Changes of several connections may come in another order than they happened in: what there is holds, at one time for all of them.
fn present(hub: &Hub, changes: &[RegistrationChange]) -> Present {
    hub.with_core(|core| {
        let is_there: Vec<bool> =
            changes.iter().map(|change| core.is_there(&change.what)).collect();
        let again: Vec<TopicName> = changes
            .iter()
            .zip(&is_there)
            .filter(|(change, is_there)| **is_there && takes_channels(change))
            .map(|(change, _)| change.what.topic)
            .collect();
        let mut channels = Vec::new();
        if !again.is_empty() {
            channels = core.registrations();
            channels.retain(|one| one.channel.is_some() && again.contains(&one.topic));
        }
        Present { is_there, channels }
    })
}

/// Whether it is the end of a topic: nsqlookupd takes that for the end of each channel that it knows of it.
fn takes_channels(change: &RegistrationChange) -> bool {
    change.is_deleted && change.what.channel.is_none()
}

/// What to say of changes (pure). What was deleted is taken back even if it is there again: with it goes a tombstone.
fn commands<'a>(changes: &'a [RegistrationChange], present: &'a Present) -> Vec<LookupCommand<'a>> {
    let mut commands = Vec::new();
    for (change, is_there) in changes.iter().zip(&present.is_there) {
        if change.is_deleted || !is_there {
            commands.push(LookupCommand::Unregister(&change.what));
        }
        if *is_there {
            commands.push(LookupCommand::Register(&change.what));
        }
        if *is_there && takes_channels(change) {
            let own = present.channels.iter().filter(|one| one.topic == change.what.topic);
            commands.extend(own.map(LookupCommand::Register));
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What is said of those changes.
    fn said(changes: &[RegistrationChange], present: &Present) -> Vec<String> {
        let mut out = Vec::new();
        commands(changes, present).iter().for_each(|one| one.encode(&mut out));
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_there_is_holds_whatever_the_order_of_the_changes() {
        let changes = [
            RegistrationChange::of("a", false),
            RegistrationChange::of("b", true),
            RegistrationChange::of("c", true),
            RegistrationChange::of("d", false),
        ];
        let is_there = vec![true, false, true, false];
        let want = ["REGISTER a", "UNREGISTER b", "UNREGISTER c", "REGISTER c", "UNREGISTER d"];
        assert_eq!(said(&changes, &Present { is_there, channels: vec![] }), want);
    }

    fn registration(topic: &str, channel: Option<&str>) -> Registration {
        let channel = channel.map(|name| name.parse().unwrap());
        Registration { topic: topic.parse().unwrap(), channel }
    }

    /// What nsqlookupd knows behind that, as its `lookup_protocol_v1.go` has it.
    fn known(said: &[String]) -> BTreeSet<String> {
        let mut known = BTreeSet::new();
        for line in said {
            let words: Vec<&str> = line.split(' ').collect();
            let (topic, channel) = (words[1].to_owned(), words.get(2));
            let path = channel.map(|channel| format!("{topic}/{channel}"));
            match (words[0], path) {
                ("REGISTER", path) => known.extend([topic].into_iter().chain(path)),
                ("UNREGISTER", Some(path)) => {
                    known.remove(&path);
                }
                ("UNREGISTER", None) => {
                    known.retain(|name| name.split('/').next().is_some_and(|first| first != topic))
                }
                other => panic!("{other:?}"),
            }
        }
        known
    }

    /// A topic and its channel that were made, deleted and perhaps made again, told in any order, beside others.
    #[test]
    fn a_topic_that_is_made_again_keeps_its_channels() {
        let change = |channel: Option<&str>, is_deleted| RegistrationChange {
            what: registration("t", channel),
            is_deleted,
        };
        let one = |nth: usize| match nth {
            0 => change(None, false),
            1 => change(Some("c"), false),
            2 => change(Some("c"), true),
            _ => change(None, true),
        };
        // `d` was told before.
        for there in [&["t", "t/c", "t/d"][..], &["t", "t/d"], &["t"], &[]] {
            let channels = there.iter().filter_map(|name| name.split_once('/'));
            let channels: Vec<_> =
                channels.map(|(topic, channel)| registration(topic, Some(channel))).collect();
            for order in (0..256).map(|n| [n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6]) {
                if order.iter().collect::<BTreeSet<_>>().len() < 4 {
                    continue;
                }
                let changes = order.map(one);
                let is_there = changes.iter().map(|change| match change.what.channel {
                    None => there.contains(&"t"),
                    Some(_) => there.contains(&"t/c"),
                });
                let present = Present { is_there: is_there.collect(), channels: channels.clone() };
                let before = ["REGISTER t d", "REGISTER other e"].map(str::to_owned);
                let got = known(&[&before[..], &said(&changes, &present)].concat());
                let others = ["other", "other/e"];
                let want: BTreeSet<String> =
                    there.iter().chain(&others).map(|name| (*name).to_owned()).collect();
                assert_eq!(got, want, "{order:?} with {there:?}");
            }
        }
    }
}
