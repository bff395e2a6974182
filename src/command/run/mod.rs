//! `run`: the whole simulation in one process.

pub mod simulation;
