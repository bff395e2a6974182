//! How files are kept: the data directory and its locks, how each SQLite database is opened, and where a test build
//! kills itself; who may read what is kept, and what an error about a file says to do.

pub mod aside;
pub mod boot;
pub mod data_dir;
pub mod directory;
pub mod failpoint;
pub mod in_place;
pub mod part_check;
pub mod private;
pub mod row_check;
pub mod sqlite;
pub mod sqlite_copy;
pub mod way_out;
