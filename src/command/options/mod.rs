//! All options of all commands: where their values come from (flags, environment, file), and what is printed of them
//! (help, errors, manual pages, completions, the page of the documentation). Runs on the main thread, before a command.
//!
//! What argh knows of an option, its name, its text and how often it may be given, is not said a second time: a
//! [`Catalogue`](catalogue::Catalogue) joins it with the lines of [`table`].

pub(super) mod catalogue;
pub(super) mod completions;
pub(super) mod file;
pub(super) mod help;
pub(super) mod kind;
pub(super) mod manual;
pub(super) mod markdown;
pub(super) mod settings;
pub(super) mod show;
pub(super) mod suggest;
pub(super) mod table;
pub(super) mod typed;
