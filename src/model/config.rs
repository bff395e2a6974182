//! Choices that run through the whole program, as options write them (pure).

use std::fmt;
use std::str::FromStr;

/// How plays spread over the videos.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Popularity {
    /// All alike.
    Uniform,
    /// The n-th video is played in proportion to n^-S: few are popular, as in life.
    Zipf(f64),
}

impl FromStr for Popularity {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "uniform" {
            return Ok(Self::Uniform);
        }
        match text.strip_prefix("zipf:").map(str::parse) {
            Some(Ok(exponent)) if exponent > 0.0 && exponent <= 10.0 => Ok(Self::Zipf(exponent)),
            _ => Err("must be uniform, or zipf:S with S above 0 and at most 10".to_owned()),
        }
    }
}

impl fmt::Display for Popularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(exponent) => write!(f, "zipf:{exponent}"),
        }
    }
}

/// What a count survives once its message is finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: to measure what durability costs.
    None,
    /// The end of the process, by kill -9 too; the newest commits may be lost with the machine's power.
    #[default]
    Process,
    /// A power loss: one fsync a commit.
    Power,
}

impl Durability {
    const ALL: [(&str, Self); 3] =
        [("none", Self::None), ("process", Self::Process), ("power", Self::Power)];
}

impl FromStr for Durability {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(name, _)| *name == text);
        known
            .map(|(_, durability)| *durability)
            .ok_or_else(|| "must be process, power or none".to_owned())
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::ALL.iter().find(|(_, durability)| durability == self);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}
