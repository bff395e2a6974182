//! The progress bars of `run`, moved by the main thread.

use std::fmt::Write;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::processor::Processor;
use crate::producer::Production;

/// The bar takes what the figures leave of the line: 8 columns of a terminal with 40.
const TEMPLATE: &str = "{prefix} {wide_bar} {percent:>3}% {rate:>5}/s ETA {left:>6}";

/// Progress on a terminal; nothing elsewhere.
pub(super) struct Bars {
    all: MultiProgress,
    queued: ProgressBar,
    counted: ProgressBar,
}

impl Bars {
    pub(super) fn new(messages: u64) -> Self {
        Self::on(MultiProgress::new(), messages)
    }

    fn on(all: MultiProgress, messages: u64) -> Self {
        let style = ProgressStyle::with_template(TEMPLATE)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("rate", rate)
            .with_key("left", left);
        let bar = |prefix: &'static str| {
            all.add(ProgressBar::new(messages).with_style(style.clone()).with_prefix(prefix))
        };
        let (queued, counted) = (bar("queued "), bar("counted"));
        Self { all, queued, counted }
    }

    pub(super) fn show(&self, production: Option<&Production>, processor: Option<&Processor>) {
        match production {
            Some(production) => self.queued.set_position(production.acknowledged()),
            None => self.queued.set_position(self.queued.length().unwrap_or(0)),
        }
        if let Some(processor) = processor {
            self.counted.set_position(processor.progress().consumed());
        }
    }

    pub(super) fn clear(&self) {
        // Cosmetic: a terminal that is gone is no error of the run.
        let _ = self.all.clear();
    }
}

/// Plays a second, in at most 5 columns: `850`, `1.35M`.
fn rate(state: &ProgressState, out: &mut dyn Write) {
    // Of what is queued before the first look it is beyond all measure.
    let rate = state.per_sec().min(9_999e6);
    let (rate, unit) = match rate {
        rate if rate >= 1e6 => (rate / 1e6, "M"),
        rate if rate >= 1e4 => (rate / 1e3, "k"),
        rate => (rate, ""),
    };
    // A line that is cut short is no error of the run.
    let _ = match unit {
        "" => write!(out, "{rate:.0}"),
        _ if rate < 10.0 => write!(out, "{rate:.2}{unit}"),
        _ => write!(out, "{rate:.0}{unit}"),
    };
}

/// How long it takes to the end, in at most 6 columns: `59s`, `3m07s`, `2h05m`, `9d`; nothing at the end, a dash while
/// nothing moves.
fn left(state: &ProgressState, out: &mut dyn Write) {
    let done = state.len().is_some_and(|len| state.pos() >= len);
    let left = state.eta().as_secs();
    let _ = match left {
        _ if done => Ok(()),
        _ if state.per_sec() <= 0.0 => write!(out, "-"),
        0..60 => write!(out, "{left}s"),
        60..3_600 => write!(out, "{}m{:02}s", left / 60, left % 60),
        3_600..360_000 => write!(out, "{}h{:02}m", left / 3_600, left % 3_600 / 60),
        _ => write!(out, "{}d", (left / 86_400).min(9_999)),
    };
}

#[cfg(test)]
mod tests {
    use indicatif::{InMemoryTerm, ProgressDrawTarget};

    use super::*;

    /// What a terminal of that width shows.
    fn shown(columns: u16, messages: u64, position: u64) -> String {
        let terminal = InMemoryTerm::new(5, columns);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let bars = Bars::on(MultiProgress::with_draw_target(target), messages);
        for bar in [&bars.queued, &bars.counted] {
            bar.set_position(position);
            bar.tick();
        }
        terminal.contents()
    }

    #[test]
    fn two_lines_fit_forty_columns() {
        for (messages, position) in
            [(1, 1), (100_000, 0), (100_000, 99_999), (1_000_000_000_000, 999_999_999), (10, 3)]
        {
            let shown = shown(40, messages, position);
            let lines: Vec<&str> = shown.lines().collect();
            assert_eq!(lines.len(), 2, "{shown}");
            for (line, name) in lines.iter().zip(["queued ", "counted "]) {
                assert!(line.starts_with(name) && line.contains("/s"), "{shown}");
                assert!(
                    line.chars().count() <= 40 && line.matches(['█', '░']).count() >= 8,
                    "{shown}"
                );
            }
        }
    }
}
