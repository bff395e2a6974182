//! Which of its dashboards a processor means (pure).

/// One of the dashboards that a processor publishes to, in the order in which they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DashboardIndex(usize);

impl DashboardIndex {
    /// The first, which is the only one as a rule.
    pub const FIRST: Self = Self(0);

    /// The most dashboards of one processor: each has a thread, and is told every count.
    pub const MAX: usize = 8;

    /// Each of so many.
    pub fn all(dashboards: usize) -> impl Iterator<Item = Self> {
        (0..dashboards).map(Self)
    }

    /// From 0 on.
    pub fn get(self) -> usize {
        self.0
    }
}
