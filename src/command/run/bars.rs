//! The progress bars of `run`, moved by the main thread.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::processor::Processor;
use crate::producer::Production;

/// Progress on a terminal; nothing elsewhere.
pub(super) struct Bars {
    all: MultiProgress,
    queued: ProgressBar,
    counted: ProgressBar,
}

impl Bars {
    pub(super) fn new(messages: u64) -> Self {
        let all = MultiProgress::new();
        let template = "{prefix:>8} {bar:40} {human_pos}/{human_len} {per_sec}";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = |prefix: &'static str| {
            all.add(ProgressBar::new(messages).with_style(style.clone()).with_prefix(prefix))
        };
        let (queued, counted) = (bar("queued"), bar("counted"));
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
