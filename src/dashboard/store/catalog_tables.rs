//! The catalog's rows in the tables: read when the store opens, and written by checkpoints.

use anyhow::Result;
use rusqlite::{Connection, Row, Transaction, params};
use uuid::Uuid;

use super::catalog::{Catalog, CatalogKey, CatalogRow, Import, VideoChanges, VisibilitySet};
use super::catalog_change::{visibility_number, visibility_of};
use super::identity::CountSums;
use super::row::{check_row, damaged};
use super::titles::{TitleOrigin, TitleRow};
use crate::model::unix_time::UnixMs;
use crate::wire::Correction;

/// Writes the rows that were taken, and keeps `sums`.
///
/// # Errors
/// SQLite's.
pub(super) fn write(
    transaction: &Transaction<'_>,
    taken: &[(CatalogKey, CatalogRow)],
    sums: &mut CountSums,
) -> Result<()> {
    for (_, row) in taken {
        match row {
            CatalogRow::Title(id, row) => {
                delete(transaction, "DELETE FROM titles WHERE video_id = ?1", id, sums)?;
                let Some(TitleRow { title, url, origin }) = row else { continue };
                transaction
                    .prepare_cached(
                        "INSERT INTO titles VALUES (?1, ?2, ?3, ?4, row_check(?1, ?2, ?3, ?4))",
                    )?
                    .execute(params![id, title, url.as_deref(), *origin == TitleOrigin::Hand])?;
            }
            CatalogRow::Changes(id, changes) => {
                delete(transaction, "DELETE FROM changes WHERE video_id = ?1", id, sums)?;
                let Some(VideoChanges { visibility, correction }) = changes else { continue };
                let visibility = visibility.as_ref();
                let correction = correction.as_ref();
                transaction
                    .prepare_cached(
                        "INSERT INTO changes
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, row_check(?1, ?2, ?3, ?4, ?5, ?6, ?7))",
                    )?
                    .execute(params![
                        id,
                        visibility.map(|set| visibility_number(set.visibility)),
                        visibility.and_then(|set| set.reason.as_deref()),
                        visibility.map(|set| set.at.0),
                        correction.map(|correction| correction.plays),
                        correction.map(|correction| correction.reason.as_str()),
                        correction.map(|correction| correction.at.0),
                    ])?;
            }
            CatalogRow::Import(id, import) => {
                delete(transaction, "DELETE FROM imports WHERE import = ?1", id, sums)?;
                let Some(Import { key, name, at }) = import else { continue };
                transaction
                    .prepare_cached(
                        "INSERT INTO imports VALUES (?1, ?2, ?3, ?4, row_check(?1, ?2, ?3, ?4))",
                    )?
                    .execute(params![id, key, name, at.0])?;
            }
        }
        sums.catalog += 1;
    }
    Ok(())
}

fn delete(
    transaction: &Transaction<'_>,
    sql: &str,
    id: &impl rusqlite::ToSql,
    sums: &mut CountSums,
) -> Result<()> {
    sums.catalog -= transaction.prepare_cached(sql)?.execute([id])? as i64;
    Ok(())
}

/// Reads the tables, and counts their rows in `sums`.
///
/// # Errors
/// A row does not fit its check; or SQLite's.
pub(super) fn load(connection: &Connection, sums: &mut CountSums) -> Result<Catalog> {
    let mut catalog = Catalog::default();
    let mut take = |row: CatalogRow| {
        catalog.load(row);
        sums.catalog += 1;
    };
    each(
        connection,
        "titles",
        "SELECT row_check = row_check(video_id, title, url, by_hand), video_id, title, url, by_hand FROM titles",
        |row| {
            let by_hand: bool = row.get(4)?;
            let origin = if by_hand { TitleOrigin::Hand } else { TitleOrigin::Play };
            let text = |at| row.get::<_, Option<Box<str>>>(at);
            let row_of = TitleRow { title: text(2)?, url: text(3)?.map(Box::new), origin };
            take(CatalogRow::Title(row.get(1)?, Some(row_of)));
            Ok(())
        },
    )?;
    each(
        connection,
        "changes",
        "SELECT row_check = row_check(video_id, visibility, visibility_reason, visibility_at, correction,
                                      correction_reason, correction_at),
                video_id, visibility, visibility_reason, visibility_at, correction, correction_reason, correction_at
         FROM changes",
        |row| {
            let changes = read_changes(row)?;
            let changes = changes.ok_or_else(|| damaged(connection, "a row of the table changes is half"))?;
            take(CatalogRow::Changes(row.get(1)?, Some(changes)));
            Ok(())
        },
    )?;
    each(
        connection,
        "imports",
        "SELECT row_check = row_check(import, key, name, at), import, key, name, at FROM imports",
        |row| {
            let (id, key): (Uuid, Uuid) = (row.get(1)?, row.get(2)?);
            let import = Import { key, name: row.get(3)?, at: UnixMs(row.get(4)?) };
            take(CatalogRow::Import(id, Some(import)));
            Ok(())
        },
    )?;
    Ok(catalog)
}

/// `None`: it says one thing without another that belongs to it.
fn read_changes(row: &Row<'_>) -> rusqlite::Result<Option<VideoChanges>> {
    let (visibility, at): (Option<u8>, Option<i64>) = (row.get(2)?, row.get(4)?);
    let (plays, correction_reason, correction_at): (Option<i64>, Option<String>, Option<i64>) =
        (row.get(5)?, row.get(6)?, row.get(7)?);
    let visibility = match (visibility, at) {
        (None, None) => None,
        (Some(number), Some(at)) => {
            let Some(visibility) = visibility_of(number) else { return Ok(None) };
            Some(VisibilitySet { visibility, reason: row.get(3)?, at: UnixMs(at) })
        }
        _ => return Ok(None),
    };
    let correction = match (plays, correction_reason, correction_at) {
        (None, None, None) => None,
        (Some(plays), Some(reason), Some(at)) => Some(Correction { plays, reason, at: UnixMs(at) }),
        _ => return Ok(None),
    };
    Ok(Some(VideoChanges { visibility, correction }))
}

/// Does something with each row of a table that fits its check, which is the first column.
fn each(
    connection: &Connection,
    table: &str,
    sql: &str,
    mut act: impl FnMut(&Row<'_>) -> Result<()>,
) -> Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        check_row(connection, table, row.get(0)?)?;
        act(row)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::store::database;
    use crate::model::video_id::VideoId;
    use crate::wire::{VideoTexts, Visibility};

    #[test]
    fn what_was_written_is_read_and_damage_is_found() {
        let mut connection = database::empty().unwrap();
        let (a, b) = ("a".parse::<VideoId>().unwrap(), VideoId::from_u128(7));
        let mut catalog = Catalog::default();
        let url = Some("https://example.org/a".to_owned());
        catalog.set_by_hand(a, &VideoTexts { title: None, url });
        catalog.set_by_play(b, "Cats \u{2014} \"<b>\"");
        let hidden = VisibilitySet { visibility: Visibility::Hidden, reason: None, at: UnixMs(1) };
        catalog.set_visibility(a, hidden);
        let correction = Correction { plays: -5, reason: "bots".to_owned(), at: UnixMs(2) };
        catalog.correct(b, correction);
        let import = Import { key: Uuid::from_u128(3), name: "x".to_owned(), at: UnixMs(3) };
        catalog.add_import(Uuid::from_u128(2), import);
        let mut sums = CountSums::default();
        let mut save = |catalog: &mut Catalog, sums: &mut CountSums| {
            let transaction = connection.transaction().unwrap();
            let taken = catalog.take_changed(None, usize::MAX);
            write(&transaction, &taken, sums).unwrap();
            transaction.commit().unwrap();
            catalog.written();
            taken
        };
        let taken = save(&mut catalog, &mut sums);
        assert_eq!((taken.len(), sums.catalog), (5, 5));
        catalog.set_by_hand(a, &VideoTexts::default());
        catalog.set_by_play(b, "Dogs");
        save(&mut catalog, &mut sums);
        let mut found = CountSums::default();
        let loaded = load(&connection, &mut found).unwrap();
        assert_eq!((found.catalog, sums.catalog), (4, 4));
        assert_eq!(loaded.titles().get(&b), catalog.titles().get(&b));
        assert_eq!(
            [a, b].map(|id| loaded.changes(&id).cloned()),
            [a, b].map(|id| catalog.changes(&id).cloned())
        );
        assert_eq!(loaded.imports().collect::<Vec<_>>(), catalog.imports().collect::<Vec<_>>());
        assert_eq!(loaded.waiting(), 0);
        for change in [
            "UPDATE titles SET title = 'x'",
            "UPDATE changes SET correction = 9 WHERE correction = -5",
            "UPDATE imports SET name = 'y'",
        ] {
            let transaction = connection.transaction().unwrap();
            assert_eq!(transaction.execute(change, []).unwrap(), 1);
            let error = load(&transaction, &mut found).unwrap_err();
            assert!(error.to_string().contains("does not fit its check"), "{error}");
        }
    }
}
