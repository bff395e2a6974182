//! Questions to the parts over HTTP, none of which waits long: a part may be stopped.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use ureq::Agent;

/// How long a part may take for an answer.
const LIMIT: Duration = Duration::from_secs(2);

/// One that keeps its connections.
pub(crate) fn agent() -> Agent {
    // What is on this machine is not behind the proxy that $HTTP_PROXY names.
    Agent::new_with_config(Agent::config_builder().timeout_global(Some(LIMIT)).proxy(None).build())
}

/// What a part answers, as JSON.
pub(crate) fn get(agent: &Agent, at: SocketAddr, path: &str) -> Result<serde_json::Value> {
    let text = agent.get(format!("http://{at}{path}")).call()?.body_mut().read_to_string()?;
    Ok(serde_json::from_str(&text)?)
}

/// An act of an nsqd.
pub(crate) fn post(agent: &Agent, at: SocketAddr, path: &str) -> Result<()> {
    agent.post(format!("http://{at}{path}")).send_empty()?;
    Ok(())
}
