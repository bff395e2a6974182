//! Dead letters that are looked at again, in both designs: a play without identity, whose message was rejected before the options
//! were mended, and which nothing but its letter protects from being counted twice.
//!
//! In files the journal has the letter, then the record that counts its play and names the letter; a checkpoint writes both to
//! the tables, in slices, and a kill may come between any two steps. In the shared ledger two commands look at the letter
//! at once, and the database may lose what is not flushed.
//!
//! In every state the play is counted at most once, and it is counted or its letter is there; and from every state there is a way on
//! which it becomes counted.

use super::{ModelState, TakeStep, check_broken, explore};

/// A rule of the ledger in files that is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum FilesRule {
    Nothing,
    /// The record does not name the letter: it goes in a frame of its own.
    RemovalLater,
    /// A checkpoint does not remove letters from the table.
    TableKeepsIt,
    /// A start that finds a letter's frame in the journal keeps the letter, whatever record follows.
    ReplayKeepsIt,
    /// The message of a letter is not remembered: the play counts when nsqd delivers the message again.
    MessageForgotten,
}

/// The frames of the journal, in the order in which they are written.
const LETTER: u8 = 1;
const COUNTED: u8 = 2;
/// With broken rules only: the letter alone goes; the play alone is counted.
const REMOVED: u8 = 3;
const AGAIN: u8 = 4;

/// What the frames up to one have made of the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct JournalContent {
    has_letter: bool,
    count: u8,
    /// The newest frame that is in it.
    as_of: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LetterJournal {
    /// The frames that were written: how many there are, and which kinds.
    frames: [u8; 4],
    written: usize,
    /// From which frame on the journal is read.
    position: usize,
    /// The row of the letter, and of the video with the frame that it stands as of.
    row: bool,
    table: JournalContent,
    /// What who holds the ledger has in memory; `None`: nobody does.
    memory: Option<JournalContent>,
    /// The letter waits to be written to its table, or to be removed from it.
    unsaved: bool,
    gone: bool,
    /// A checkpoint is on its way: up to which frame, and whether the video's slice is written.
    checkpoint: Option<usize>,
    /// nsqd may deliver the message again.
    copies: u8,
    kills: u8,
    checkpoints: u8,
}

impl LetterJournal {
    fn append(&mut self, frame: u8) {
        self.frames[self.written] = frame;
        self.written += 1;
    }

    /// What a frame does to the memory.
    fn take(&mut self, frame: u8, at: usize, rule: FilesRule) {
        let table = self.table;
        let Some(memory) = &mut self.memory else { return };
        match frame {
            LETTER => (memory.has_letter, self.unsaved) = (true, true),
            COUNTED | AGAIN if at as u8 > table.as_of => memory.count += 1,
            _ => {}
        }
        let removes = if rule == FilesRule::RemovalLater { REMOVED } else { COUNTED };
        if frame == removes {
            (memory.has_letter, self.unsaved, self.gone) = (false, false, true);
        }
        memory.as_of = at as u8;
    }

    fn start_up(&mut self, rule: FilesRule) {
        let JournalContent { count, .. } = self.table;
        self.memory = Some(JournalContent { has_letter: self.row, count, as_of: 0 });
        (self.unsaved, self.gone) = (false, false);
        for at in self.position..self.written {
            self.take(self.frames[at], at + 1, rule);
        }
        if rule == FilesRule::ReplayKeepsIt
            && self.frames[self.position..self.written].contains(&LETTER)
        {
            self.unsaved = true;
            self.memory.iter_mut().for_each(|memory| memory.has_letter = true);
        }
    }

    fn end(&mut self) {
        (self.memory, self.checkpoint, self.unsaved, self.gone) = (None, None, false, false);
    }

    fn write(&mut self, frame: u8, rule: FilesRule) {
        self.append(frame);
        self.take(frame, self.written, rule);
    }

    /// Writes the letters' slice; then the video's, which ends the checkpoint.
    fn write_slice(&mut self, upto: usize, rule: FilesRule) {
        self.row |= std::mem::take(&mut self.unsaved);
        if std::mem::take(&mut self.gone) && rule != FilesRule::TableKeepsIt {
            self.row = false;
        }
        if let Some(memory) = self.memory {
            self.table = memory;
        }
        self.position = upto;
        self.checkpoint = None;
    }
}

impl ModelState for LetterJournal {
    type Broken = FilesRule;

    fn start(rule: FilesRule) -> Self {
        let mut state = Self {
            frames: [0; 4],
            written: 0,
            position: 0,
            row: false,
            table: JournalContent::default(),
            memory: Some(JournalContent::default()),
            unsaved: false,
            gone: false,
            checkpoint: None,
            copies: 1,
            kills: 3,
            checkpoints: 2,
        };
        // Rejected, and finished.
        state.write(LETTER, rule);
        state
    }

    fn steps(&self, rule: FilesRule, step: &mut TakeStep<'_, Self>) {
        let Some(memory) = self.memory else {
            step("starts", 0, 0, &|s| s.start_up(rule));
            return;
        };
        if self.kills > 0 {
            step("is killed", 0, 0, &|s| {
                s.kills -= 1;
                s.end();
            });
        }
        match self.checkpoint {
            None if self.position < self.written && self.checkpoints > 0 => {
                step("begins a checkpoint", 0, 0, &|s| {
                    s.checkpoints -= 1;
                    s.checkpoint = Some(s.written);
                });
            }
            // The first slice has the letters, and only the last one moves the position.
            Some(_) if self.unsaved || self.gone => {
                step("writes the letters", 0, 0, &|s| {
                    s.row |= std::mem::take(&mut s.unsaved);
                    if std::mem::take(&mut s.gone) && rule != FilesRule::TableKeepsIt {
                        s.row = false;
                    }
                });
            }
            _ => {}
        }
        if let Some(upto) = self.checkpoint {
            step("ends the checkpoint", 0, 0, &|s| s.write_slice(upto, rule));
        }
        let has_room = self.written < self.frames.len() - 1;
        let owes = self.written > 0 && self.frames[self.written - 1] == COUNTED;
        match rule {
            FilesRule::RemovalLater if memory.has_letter && has_room => {
                step("counts", 0, 0, &|s| s.write(COUNTED, rule));
                if owes {
                    step("removes the letter", 0, 0, &|s| s.write(REMOVED, rule));
                }
            }
            _ if memory.has_letter && has_room => {
                step("counts and removes the letter", 0, 0, &|s| s.write(COUNTED, rule));
            }
            _ => {}
        }
        if self.copies > 0 && has_room {
            step("the message comes again", 0, 0, &|s| {
                s.copies -= 1;
                if rule == FilesRule::MessageForgotten {
                    s.write(AGAIN, rule);
                }
            });
        }
    }

    fn fault(&self) -> Option<&'static str> {
        let memory = self.memory?;
        if memory.count > 1 {
            Some("counted twice")
        } else if memory.count == 0 && !memory.has_letter && self.frames[0] == LETTER {
            Some("neither counted nor kept")
        } else {
            None
        }
    }

    fn is_all_counted(&self) -> bool {
        self.memory.is_some_and(|memory| memory.count == 1 && !memory.has_letter)
    }
}

/// A rule of the shared ledger that is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum SharedRule {
    Nothing,
    /// Letters are read and not locked.
    NotLocked,
    /// The letter is deleted in a transaction of its own, behind the one that counts.
    DeletedLater,
    /// It is deleted, but not in the transaction that counts: before it.
    DeletedFirst,
}

/// What one of two commands does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum LookPhase {
    #[default]
    Idle,
    /// It has read the letter, in a transaction that is open.
    Reads,
    /// It has done the first of two transactions, and owes the other.
    Owes,
}

/// What the database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LetterRows {
    letter: bool,
    count: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LetterDatabase {
    phases: [LookPhase; 2],
    /// Who has the letter's lock.
    locked: Option<usize>,
    durable: LetterRows,
    now: LetterRows,
    kills: u8,
    crashes: u8,
}

impl LetterDatabase {
    fn end(&mut self, who: usize) {
        self.phases[who] = LookPhase::Idle;
        self.locked = self.locked.filter(|holder| *holder != who);
    }
}

impl ModelState for LetterDatabase {
    type Broken = SharedRule;

    fn start(_rule: SharedRule) -> Self {
        let rows = LetterRows { letter: true, count: 0 };
        Self {
            phases: [LookPhase::Idle; 2],
            locked: None,
            durable: rows,
            now: rows,
            kills: 2,
            crashes: 1,
        }
    }

    fn steps(&self, rule: SharedRule, step: &mut TakeStep<'_, Self>) {
        if self.crashes > 0 {
            step("the database crashes", 0, 0, &|s| {
                (s.crashes, s.now) = (s.crashes - 1, s.durable);
                (0..2).for_each(|who| s.end(who));
            });
        }
        if self.now != self.durable {
            step("flushes", 0, 0, &|s| s.durable = s.now);
        }
        for who in 0..2 {
            if self.phases[who] != LookPhase::Idle && self.kills > 0 {
                step("is killed", who, 0, &|s| {
                    s.kills -= 1;
                    s.end(who);
                });
            }
            match self.phases[who] {
                // Who finds it locked skips it.
                LookPhase::Idle
                    if self.now.letter
                        && (self.locked.is_none() || rule == SharedRule::NotLocked) =>
                {
                    step("reads the letter", who, 0, &|s| {
                        s.phases[who] = LookPhase::Reads;
                        if rule != SharedRule::NotLocked {
                            s.locked = Some(who);
                        }
                    });
                }
                LookPhase::Reads => step("commits", who, 0, &|s| match rule {
                    SharedRule::DeletedLater => {
                        s.now.count += 1;
                        s.end(who);
                        s.phases[who] = LookPhase::Owes;
                    }
                    SharedRule::DeletedFirst => {
                        s.now.letter = false;
                        s.end(who);
                        s.phases[who] = LookPhase::Owes;
                    }
                    _ => {
                        s.now = LetterRows { letter: false, count: s.now.count + 1 };
                        s.end(who);
                    }
                }),
                LookPhase::Owes => step("commits the rest", who, 0, &|s| {
                    match rule {
                        SharedRule::DeletedFirst => s.now.count += 1,
                        _ => s.now.letter = false,
                    }
                    s.end(who);
                }),
                LookPhase::Idle => {}
            }
        }
    }

    fn fault(&self) -> Option<&'static str> {
        let owes = self.phases.contains(&LookPhase::Owes);
        match self.now {
            LetterRows { count: 2.., .. } => Some("counted twice"),
            LetterRows { count: 0, letter: false } if !owes => Some("neither counted nor kept"),
            _ => None,
        }
    }

    fn is_all_counted(&self) -> bool {
        self.now == LetterRows { letter: false, count: 1 } && self.now == self.durable
    }
}

#[test]
fn in_files_a_letter_counts_once() {
    let states = explore::<LetterJournal>(FilesRule::Nothing)
        .unwrap_or_else(|(fault, trace)| panic!("{fault}: {trace:#?}"));
    // All of them, and not the few that a slip in the steps would leave.
    assert!(states > 200, "{states}");
}

#[test]
fn every_rule_of_the_files_is_needed() {
    use FilesRule as Rule;
    let check = check_broken::<LetterJournal>;
    check(Rule::RemovalLater, "counted twice", &["counts"]);
    check(
        Rule::TableKeepsIt,
        "counted twice",
        &["counts and removes the letter", "ends the checkpoint", "is killed", "starts"],
    );
    check(
        Rule::ReplayKeepsIt,
        "counted twice",
        &["counts and removes the letter", "is killed", "starts"],
    );
    check(Rule::MessageForgotten, "counted twice", &["the message comes again"]);
}

#[test]
fn in_the_shared_ledger_a_letter_counts_once() {
    let states = explore::<LetterDatabase>(SharedRule::Nothing)
        .unwrap_or_else(|(fault, trace)| panic!("{fault}: {trace:#?}"));
    assert!(states > 20, "{states}");
}

#[test]
fn every_rule_of_the_shared_ledger_is_needed() {
    use SharedRule as Rule;
    let check = check_broken::<LetterDatabase>;
    check(Rule::NotLocked, "counted twice", &["reads the letter", "commits"]);
    check(Rule::DeletedLater, "counted twice", &["commits", "reads the letter"]);
    check(Rule::DeletedFirst, "neither counted nor kept", &["commits", "is killed"]);
}
