//! Messages that bring several plays or dead letters (pure).

/// Whether a play or a dead letter is all that its message brought. What several of one message have no identity for is new
/// together, or a repeat together: a message that comes again brings all of it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartOf {
    /// It is.
    Alone,
    /// It is one of several. The messages of a batch that bring several are numbered, from 0 on: one that is delivered twice
    /// in a batch has two numbers.
    Message(u32),
}

/// What was found of the messages of a batch that bring several plays or dead letters: asked once, the same for all of them.
#[derive(Debug)]
pub(super) struct MessageVerdicts<V> {
    /// By number.
    found: Vec<Option<V>>,
}

impl<V> Default for MessageVerdicts<V> {
    fn default() -> Self {
        Self { found: Vec::new() }
    }
}

impl<V: Copy> MessageVerdicts<V> {
    /// What holds for a part of a message: what `ask` says of the first of its parts.
    pub(super) fn of(&mut self, part: PartOf, ask: impl FnOnce() -> V) -> V {
        let PartOf::Message(number) = part else { return ask() };
        let number = number as usize;
        if self.found.len() <= number {
            self.found.resize(number + 1, None);
        }
        *self.found[number].get_or_insert_with(ask)
    }
}

#[cfg(any(test, feature = "postgres"))]
impl MessageVerdicts<()> {
    /// Whether it is the first part of its message that is asked for.
    pub(super) fn is_first(&mut self, part: PartOf) -> bool {
        let mut is_first = false;
        self.of(part, || is_first = true);
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_asked_for_once() {
        let mut verdicts = MessageVerdicts::default();
        let mut asked = 0;
        for (part, want) in [
            (PartOf::Message(2), 1),
            (PartOf::Message(2), 1),
            (PartOf::Alone, 2),
            (PartOf::Message(0), 3),
            (PartOf::Alone, 4),
            (PartOf::Message(2), 1),
            (PartOf::Message(0), 3),
        ] {
            let found = verdicts.of(part, || {
                asked += 1;
                asked
            });
            assert_eq!(found, want);
        }
        assert_eq!(asked, 4);
        let mut verdicts = MessageVerdicts::default();
        let parts = [PartOf::Message(1), PartOf::Message(1), PartOf::Alone, PartOf::Alone];
        assert_eq!(parts.map(|part| verdicts.is_first(part)), [true, false, true, true]);
    }
}
