//! go-nsq in the same measurement: the program of `benches/peers/go-nsq/client`, where `GO_NSQ` names it.

use std::process::{Command, Stdio};

use serde_json::Value;

/// Runs it with these arguments; what it says of itself, or `None` where there is none.
pub(crate) fn go_nsq(args: &[String]) -> Option<Value> {
    let program = std::env::var_os("GO_NSQ")?;
    let output = Command::new(program).args(args).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// A number that it told.
pub(crate) fn number(told: &Value, name: &str) -> f64 {
    told[name].as_f64().unwrap()
}
