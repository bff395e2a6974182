//! What joins the machines: loopback, where all are this one, or a network namespace for each, with a bridge.
//!
//! The names of namespaces and interfaces begin with `pc` and the number of the process that made them: so what a killed one has
//! left is known, and nobody else's is touched.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::name::{Kind, Name};

/// How the machines are joined.
pub(crate) enum Network {
    Loopback,
    Namespaces(Namespaces),
}

/// A network namespace for each machine, each joined to one bridge.
pub(crate) struct Namespaces {
    prefix: String,
    /// The third byte of 198.18.x.0/24, which is kept for tests of networks (RFC 2544).
    subnet: u8,
    machines: Vec<String>,
    cut: Vec<String>,
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        remove(&self.prefix);
    }
}

/// The machine that a part runs on.
pub(crate) fn machine(name: Name) -> String {
    match name.kind {
        Kind::Postgres => "database".into(),
        Kind::Nsqlookupd | Kind::Nsqd => format!("queue-{}", name.number),
        Kind::Dashboard => format!("screen-{}", name.number),
        Kind::Process => format!("count-{}", name.number),
        Kind::Produce | Kind::GoNsq => "site".into(),
    }
}

impl Network {
    /// A command that runs the program on a part's machine. It is killed when this program ends in whatever way.
    pub(crate) fn command(&self, name: Name, program: &Path) -> Command {
        let with_this = ["--pdeathsig", "KILL", "--"];
        let mut command = match self {
            Self::Loopback => Command::new("setpriv"),
            Self::Namespaces(of) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &of.namespace(&machine(name)), "setpriv"]);
                command
            }
        };
        command.args(with_this).arg(program);
        command
    }

    /// The address of a part's machine.
    pub(crate) fn ip(&self, name: Name) -> IpAddr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
            Self::Namespaces(of) => of.ip(&machine(name)),
        }
    }

    /// The address of this process, as the machines see it.
    pub(crate) fn own_ip(&self) -> IpAddr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
            Self::Namespaces(of) => of.address(1),
        }
    }
}

impl Namespaces {
    /// One for each machine of those parts. Each sends and gets at most `rate`, as `tc` writes it.
    pub(crate) fn new(parts: &[Name], rate: Option<&str>) -> Result<Self> {
        remove_left();
        let mut machines: Vec<String> = parts.iter().map(|name| machine(*name)).collect();
        machines.sort();
        machines.dedup();
        let prefix = format!("pc{}", std::process::id());
        let taken = output("ip", &["-o", "-4", "address"])?;
        let subnet = (1..=254u8)
            .map(|step| step.wrapping_mul(37).wrapping_add(std::process::id() as u8))
            .find(|subnet| !taken.contains(&format!(" 198.18.{subnet}.")))
            .context("every network of 198.18.0.0/16 is taken")?;
        let namespaces = Self { prefix, subnet, machines, cut: Vec::new() };
        namespaces.make(rate).context("--netns needs root and the programs ip and tc")?;
        Ok(namespaces)
    }

    fn make(&self, rate: Option<&str>) -> Result<()> {
        let bridge = format!("{}br", self.prefix);
        let address = |number| format!("{}/24", self.address(number));
        run(&["link", "add", &bridge, "type", "bridge"])?;
        run(&["address", "add", &address(1), "dev", &bridge])?;
        run(&["link", "set", &bridge, "up"])?;
        for machine in &self.machines {
            let (namespace, veth) = (self.namespace(machine), self.interface(machine));
            run(&["netns", "add", &namespace])?;
            let peer = ["peer", "name", "eth0", "netns", &namespace];
            run(&[&["link", "add", &veth, "type", "veth"][..], &peer].concat())?;
            run(&["link", "set", &veth, "master", &bridge, "up"])?;
            let number = self.number(machine);
            run(&["-n", &namespace, "address", "add", &address(number), "dev", "eth0"])?;
            run(&["-n", &namespace, "link", "set", "eth0", "up"])?;
            run(&["-n", &namespace, "link", "set", "lo", "up"])?;
            let Some(rate) = rate else { continue };
            // A burst of a few ms of a gigabit; what waits longer than 50 ms is dropped.
            let limit = ["root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms"];
            let inside = ["netns", "exec", &namespace, "tc", "qdisc", "add", "dev", "eth0"];
            run(&[&inside[..], &limit].concat())?;
            output("tc", &[&["qdisc", "add", "dev", &veth][..], &limit].concat())?;
        }
        Ok(())
    }

    fn number(&self, machine: &str) -> u8 {
        let index = self.machines.iter().position(|of| of == machine);
        10 + index.expect("every part's machine was made") as u8
    }

    fn address(&self, number: u8) -> IpAddr {
        Ipv4Addr::new(198, 18, self.subnet, number).into()
    }

    fn ip(&self, machine: &str) -> IpAddr {
        self.address(self.number(machine))
    }

    fn namespace(&self, machine: &str) -> String {
        format!("{}-{machine}", self.prefix)
    }

    fn interface(&self, machine: &str) -> String {
        format!("{}v{}", self.prefix, self.number(machine))
    }

    /// Takes a machine's link down, or up again; whether it was the other way.
    pub(crate) fn set_link(&mut self, machine: &str, is_up: bool) -> Result<bool> {
        let was_cut = self.is_cut(machine);
        run(&["link", "set", &self.interface(machine), if is_up { "up" } else { "down" }])?;
        self.cut.retain(|of| of != machine);
        if !is_up {
            self.cut.push(machine.to_owned());
        }
        Ok(was_cut == is_up)
    }

    pub(crate) fn is_cut(&self, machine: &str) -> bool {
        self.cut.iter().any(|of| of == machine)
    }
}

/// Whether namespaces and links can be made: by root, where the system allows it.
pub(crate) fn can_be_made() -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    let name = format!("pc{}-try", std::process::id());
    let is_made = run(&["netns", "add", &name]).is_ok();
    is_made && run(&["netns", "delete", &name]).is_ok() && output("tc", &["-V"]).is_ok()
}

/// Removes what processes that are gone have made, and what still runs in it; whether there was anything.
pub(crate) fn remove_left() -> bool {
    let Ok(namespaces) = output("ip", &["netns", "list"]) else { return false };
    let links = output("ip", &["-o", "link", "show", "type", "bridge"]).unwrap_or_default();
    let owner = |word: &str| {
        let rest = word.trim_matches(':').strip_prefix("pc")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let is_ours = rest[digits.len()..].starts_with('-') || &rest[digits.len()..] == "br";
        digits.parse::<u32>().ok().filter(|_| is_ours)
    };
    let mut owners: Vec<u32> =
        namespaces.split_whitespace().chain(links.split_whitespace()).filter_map(owner).collect();
    owners.sort_unstable();
    owners.dedup();
    owners.retain(|owner| {
        let its_name = std::fs::read_to_string(format!("/proc/{owner}/comm")).unwrap_or_default();
        *owner != std::process::id() && !its_name.starts_with("cluster")
    });
    owners.iter().for_each(|owner| remove(&format!("pc{owner}")));
    !owners.is_empty()
}

fn remove(prefix: &str) {
    let namespaces = output("ip", &["netns", "list"]).unwrap_or_default();
    let begin = format!("{prefix}-");
    for name in namespaces.lines().filter_map(|line| line.split_whitespace().next()) {
        if !name.starts_with(&begin) {
            continue;
        }
        for pid in output("ip", &["netns", "pids", name]).unwrap_or_default().split_whitespace() {
            if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        // Its end of the link goes with it, and the other end with that.
        let _ = run(&["netns", "delete", name]);
    }
    let _ = run(&["link", "delete", &format!("{prefix}br")]);
}

fn run(args: &[&str]) -> Result<()> {
    output("ip", args).map(drop)
}

fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", args.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
