//! The thread of one nsqlookupd, `broker-lookup`: registers what there is, then what changes, pings, and connects again.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select};
use nsq_protocol::thread::{OwnedThread, StopToken, stop_pair};

use super::link::LookupdLink;
use super::peer::Peer;
use super::registry::RunningLink;
use super::wire::{LookupCommand, Node};
use crate::broker::core::RegistrationChange;
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
                    peer.send(&commands(part, &still_there(hub, part)))?;
                }
            }
            recv(crossbeam_channel::at(ping_at)) -> _ => {
                peer.send(&[LookupCommand::Ping])?;
                ping_at = Instant::now() + PING_EVERY;
            }
        }
    }
}

/// Which of what has changed there is now. Changes of several connections may come in another order than they happened
/// in: what there is holds.
fn still_there(hub: &Hub, changes: &[RegistrationChange]) -> Vec<bool> {
    hub.with_core(|core| changes.iter().map(|change| core.is_there(&change.what)).collect())
}

/// What to say of changes (pure). What was deleted is taken back even if it is there again: with it goes a tombstone.
fn commands<'a>(changes: &'a [RegistrationChange], there: &[bool]) -> Vec<LookupCommand<'a>> {
    let mut commands = Vec::new();
    for (change, is_there) in changes.iter().zip(there) {
        if change.is_deleted || !is_there {
            commands.push(LookupCommand::Unregister(&change.what));
        }
        if *is_there {
            commands.push(LookupCommand::Register(&change.what));
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_holds_whatever_the_order_of_the_changes() {
        let changes = [
            RegistrationChange::of("a", false),
            RegistrationChange::of("b", true),
            RegistrationChange::of("c", true),
            RegistrationChange::of("d", false),
        ];
        let mut out = Vec::new();
        commands(&changes, &[true, false, true, false]).iter().for_each(|one| one.encode(&mut out));
        let said = String::from_utf8(out).unwrap();
        let lines: Vec<_> = said.lines().collect();
        let want = ["REGISTER a", "UNREGISTER b", "UNREGISTER c", "REGISTER c", "UNREGISTER d"];
        assert_eq!(lines, want);
    }
}
