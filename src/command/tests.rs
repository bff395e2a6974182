//! What may be typed, and that the texts of options tell the truth.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn parse_line(line: &str) -> Result<Cli, EarlyExit> {
    parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
}

/// A command as it was parsed: all its values.
#[track_caller]
fn parsed(line: &str) -> String {
    match parse_line(line) {
        Ok(cli) => format!("{cli:?}"),
        Err(exit) => panic!("{line}: {exit:?}"),
    }
}

/// Every command with its options, `--help` left out.
fn all_options() -> Vec<(String, Vec<&'static FlagInfo<'static>>)> {
    let options = |flags: &'static [FlagInfo<'static>]| {
        flags.iter().filter(|flag| flag.long != "--help").collect()
    };
    all_commands().into_iter().map(|(name, flags)| (name, options(flags))).collect()
}

#[track_caller]
fn refuses(line: &str, want: &str) {
    match parse_line(line) {
        Err(EarlyExit::Usage(text)) => {
            assert!(text.contains(want), "{text}\ndoes not say {want:?}");
            let command = line.split(' ').next().unwrap();
            let known = ["run", "process", "bench"].contains(&command);
            let usage = format!("Usage: playcounts {}", if known { command } else { "<command>" });
            assert!(text.contains(&usage), "{text}\ndoes not say {usage:?}");
        }
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn every_form_of_a_flag_works() {
    for line in [
        "run --num-messages 7 --exit",
        "run --num-messages=7 --exit=true",
        "run -num-messages=7 -exit",
    ] {
        let run = parsed(line);
        for want in [" num_messages: Count(7),", " exit: true,", " json: false,"] {
            assert!(run.contains(want), "{line}: {run}\ndoes not have {want:?}");
        }
    }
    assert!(parsed("run --exit=false").contains(" exit: false,"));
    let run = parsed("run --nsqd-tcp-address a:1 --nsqd-tcp-address=b:2");
    assert!(run.contains(r#" nsqd_tcp_address: ["a:1", "b:2"],"#), "{run}");
}

#[test]
fn switches_are_known_of_all_commands() {
    let mut known = switches();
    known.sort_unstable();
    known.dedup();
    let mut want = [
        "--real-life",
        "--start-nsq",
        "--reset",
        "--exit",
        "--json",
        "--yes",
        "--standby",
        "--adopt-ledger",
        "--beside-others",
        "--accept-loss",
    ];
    want.sort_unstable();
    assert_eq!(known, want);
}

#[test]
fn wrong_usage_is_answered_with_the_usage_of_that_command() {
    refuses("run --nonsense", "--nonsense");
    refuses("run --num-messages x", "--num-messages");
    refuses("run --num-messages -5", "--num-messages");
    refuses("run --num-threads 0", "--num-threads");
    refuses("run --update-interval 3x", "3x");
    refuses("run --popularity zipf:-1", "zipf:-1");
    refuses("run --exit=maybe", "--exit takes no value");
    refuses("process --log-level loud", "loud");
    refuses("process --consumer-opt colour,red", "no consumer option \"colour\"; there are ");
    refuses("run --producer-opt=snappy,maybe", "option snappy is \"maybe\"");
    refuses("bench --rounds 0", "--rounds");
    refuses("bench --num-messages many", "--num-messages");
    refuses("nonsense", "nonsense");
    refuses("", "");
}

#[test]
fn help_and_version_go_to_stdout() {
    for line in ["--help", "-h", "run --help", "run -h", "broker -h", "verify help"] {
        match parse_line(line) {
            Err(EarlyExit::Asked(text)) => {
                assert!(text.contains("Usage: playcounts"), "{text}")
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    assert_eq!(parse_line("--version").unwrap_err(), EarlyExit::Asked("playcounts 0.1.0\n".into()));
}

/// Every documented default is the real one: giving it changes nothing.
#[test]
fn help_tells_the_defaults() {
    // What these mean is made of them later, and tested there.
    let later = [
        ("produce", "--nsqd-tcp-address"),
        ("process", "--nsqd-tcp-address"),
        ("process", "--dashboard-url"),
    ];
    for (command, options) in all_options() {
        let command = &*command;
        let required = match command {
            "backup" => " --output x",
            "restore" => " --from x",
            "ledger init" | "ledger status" | "ledger import" => " --ledger x",
            _ => "",
        };
        let plain = parsed(&format!("{command}{required}"));
        for option in options {
            let what = format!("{command} {}", option.long);
            let Some((_, behind)) = option.description.split_once("[default: ") else {
                let is_switch = matches!(option.kind, FlagInfoKind::Switch);
                let is_required = ["backup --output", "restore --from"].contains(&what.as_str())
                    || command.starts_with("ledger ") && option.long == "--ledger";
                assert!(is_switch || is_required, "{what}: no default");
                continue;
            };
            let default = behind.strip_suffix(']').unwrap();
            let field = option.long.trim_start_matches('-').replace('-', "_");
            let has = |value: &str| plain.contains(&format!(" {field}: {value}"));
            let not_given = has("None") || has("[]");
            let is_word = default.contains(' ') || ["none", "never"].contains(&default);
            if is_word
                || command == "broker" && not_given
                || later.contains(&(command, option.long))
            {
                assert!(not_given, "{what}: {default}, but {plain}");
            } else {
                let given = parsed(&format!("{command}{required} {} {default}", option.long));
                assert_eq!(given, plain, "{what}: {default}");
            }
        }
    }
}

/// An option that means the same in several commands reads the same in each.
#[test]
fn an_option_has_one_text_for_each_of_its_meanings() {
    let mut texts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (_, options) in all_options() {
        for option in options {
            texts.entry(option.long).or_default().insert(option.description);
        }
    }
    let several = texts.into_iter().map(|(option, texts)| (option, texts.len()));
    let several: Vec<_> = several.filter(|(_, texts)| *texts > 1).collect();
    // Without PostgreSQL there is no command `ledger`.
    let ledger = usize::from(cfg!(feature = "postgres"));
    let want = [
        ("--accept-loss", 2),
        ("--allowed-host", 2),
        ("--channel", 3),
        ("--dashboard-url", 4),
        ("--data-dir", 12 + ledger),
        ("--durability", 3),
        ("--http-address", 2),
        ("--json", 4 + 2 * ledger),
        ("--ledger", 1 + ledger),
        ("--lookupd-http-address", 5),
        ("--max-in-flight", 2),
        ("--max-msg-size", 2),
        ("--nsqd-http-address", 4),
        ("--nsqd-tcp-address", 3),
        ("--num-messages", 3),
        ("--num-threads", 2),
        ("--rate", 2),
        ("--topic", 4),
        ("--write-token", 4),
    ];
    let want: Vec<_> = want.into_iter().filter(|(_, texts)| *texts > 1).collect();
    assert_eq!(several, want);
}
