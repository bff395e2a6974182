//! What the program is about, without files, sockets, threads or clocks (pure): plays, videos, counts, the rules of
//! publication, and what the options' values mean.

pub mod attempted;
pub mod config;
pub mod counts;
pub mod dashboard_index;
pub mod hash;
pub mod plain_text;
pub mod play;
pub mod publish_rules;
pub mod seq_set;
pub mod time_buckets;
pub mod time_window;
pub mod title;
pub mod unix_time;
pub mod varint;
pub mod video;
pub mod video_id;
pub mod video_ids;
pub(crate) mod words;
