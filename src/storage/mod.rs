//! How files are kept: the data directory and its locks, how each SQLite database is opened, and where a test build
//! kills itself.

pub mod boot;
pub mod data_dir;
pub mod failpoint;
pub mod part_check;
pub mod row_check;
pub mod sqlite;
pub mod sqlite_copy;
