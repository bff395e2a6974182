//! `titles`, `import` and `video` against a running dashboard: files as people have them, repeats, and what is refused.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::{Running, assert_exit, command, dashboard, get, output, total};

fn run(dir: &Path, url: &str, args: &[&str]) -> Output {
    output(dir, &[args, &["--dashboard-url", url]].concat())
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn titles_come_from_a_file_and_go_back_into_one() {
    let dir = tempfile::tempdir().unwrap();
    let (_dashboard, url) = dashboard(dir.path());
    let file = "video_id,title,url\r\n-dQw4w9WgXc,\"How to cook, and \"\"eat\"\" rice\",https://example.org/a\r\n17,<b>é</b>,\r\n";
    std::fs::write(dir.path().join("titles.csv"), file).unwrap();
    for _ in 0..2 {
        let done = run(dir.path(), &url, &["titles", "import", "titles.csv"]);
        assert_exit(&done, 0);
        assert_eq!(said(&done.stdout), "2 videos of titles.csv got title and link\n");
    }
    let exported = run(dir.path(), &url, &["titles", "export"]);
    assert_exit(&exported, 0);
    assert_eq!(exported.stdout.len(), file.len(), "{}", said(&exported.stdout));
    for line in file.lines() {
        assert!(
            said(&exported.stdout).contains(line),
            "{line} is not in {}",
            said(&exported.stdout)
        );
    }

    // What is wrong is told with its line; the rest goes on.
    let title = "x".repeat(301);
    let broken = format!(
        "a,A\nb\nc,{title}\nd,D,javascript:alert(1)\n{},E\nf,\"F\n\"\ng,G\n",
        "e".repeat(129)
    );
    std::fs::write(dir.path().join("broken.csv"), broken).unwrap();
    let done = run(dir.path(), &url, &["titles", "import", "broken.csv", "--json"]);
    assert_exit(&done, 1);
    assert_eq!(said(&done.stdout), "{\"taken\":2,\"refused\":5}\n");
    let stderr = said(&done.stderr);
    for want in [
        "broken.csv, line 2: 1 column; there must be video_id,title,url, with commas between them",
        "broken.csv, line 3: a title has at most 300 characters, not 301",
        "broken.csv, line 4: a url starts with http:// or https://",
        "broken.csv, line 5: a video id has at most 128 bytes, not 129: \"eee",
        "broken.csv, lines 6 to 7: a title has no control characters; character 2 is one",
        "5 rows of broken.csv not taken: mend them",
    ] {
        assert!(stderr.contains(want), "{want}\nis not in\n{stderr}");
    }
}

/// As a pipe brings it, in many batches; very long titles make them smaller.
#[test]
fn many_titles_are_piped_in() {
    let dir = tempfile::tempdir().unwrap();
    let (_dashboard, url) = dashboard(dir.path());
    let mut import = command(dir.path(), &["titles", "import", "-", "--dashboard-url", &url]);
    let mut import = import.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut pipe = import.stdin.take().unwrap();
    for n in 0..4_500 {
        let title = if n % 2 == 0 { "\u{1f3a5}".repeat(290) } else { "title".to_owned() };
        writeln!(pipe, "video-{n},{title} {n}").unwrap();
    }
    drop(pipe);
    let done = import.wait_with_output().unwrap();
    assert_exit(&done, 0);
    assert_eq!(said(&done.stdout), "4,500 videos of stdin got title and link\n");
    let exported = run(dir.path(), &url, &["titles", "export"]);
    assert_eq!(said(&exported.stdout).lines().count(), 4_501);
}

#[test]
fn an_older_programs_counts_are_taken_over_once_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let (_dashboard, url) = dashboard(dir.path());
    let rows: String = (0..2_500).map(|n| format!("video-{n},{n}\n")).collect();
    let sum = 2_499 * 2_500 / 2;
    std::fs::write(dir.path().join("counts.csv"), &rows).unwrap();
    let dry = run(dir.path(), &url, &["import", "counts.csv", "--dry-run"]);
    assert_exit(&dry, 0);
    assert!(
        said(&dry.stdout)
            .starts_with("would import 3,123,750 plays of 2,500 videos from counts.csv")
    );
    assert_eq!(total(&url), 0);
    let first = run(dir.path(), &url, &["import", "counts.csv"]);
    assert_exit(&first, 0);
    assert!(
        said(&first.stdout)
            .starts_with("imported 3,123,750 plays of 2,500 videos from counts.csv; import ")
    );
    assert_eq!(total(&url), sum);
    // The same counts in another order, with a header, under another name: the same import.
    let turned: String = rows.lines().rev().map(|row| format!("{row},2026\r\n")).collect();
    std::fs::write(dir.path().join("turned.csv"), format!("ID,plays,year\r\n{turned}")).unwrap();
    for file in ["counts.csv", "turned.csv"] {
        let again = run(dir.path(), &url, &["import", file]);
        assert_exit(&again, 0);
        assert!(
            said(&again.stdout).starts_with("nothing was changed: import "),
            "{}",
            said(&again.stdout)
        );
        assert_eq!(total(&url), sum);
    }
    // A newer version of the file would count most of it twice.
    std::fs::write(dir.path().join("counts.csv"), format!("{rows}more,5\n")).unwrap();
    let newer = run(dir.path(), &url, &["import", "counts.csv"]);
    assert_exit(&newer, 1);
    assert!(
        said(&newer.stderr).contains("take that back first: playcounts import --undo "),
        "{}",
        said(&newer.stderr)
    );
    assert_eq!(total(&url), sum);
    let list = run(dir.path(), &url, &["import", "--list"]);
    assert!(
        said(&list.stdout)
            .ends_with(" 3,123,750 plays of 2,500 videos counts.csv\n1 import is there\n")
    );
    let undone = run(dir.path(), &url, &["import", "--undo", "turned.csv"]);
    assert_exit(&undone, 0);
    assert_eq!(total(&url), 0);
    let gone = run(dir.path(), &url, &["import", "--undo", "turned.csv"]);
    assert_exit(&gone, 1);
    assert!(said(&gone.stderr).contains("no import of turned.csv is there: nothing was changed"));

    // Rows that are none, and a video that is there twice: the rest counts.
    std::fs::write(dir.path().join("broken.csv"), "a,1\nb,x\nc,2\na,3\n").unwrap();
    let broken = run(dir.path(), &url, &["import", "broken.csv", "--json"]);
    assert_exit(&broken, 1);
    assert!(
        said(&broken.stdout)
            .contains("\"videos\":2,\"plays\":3,\"refused\":2,\"done\":\"imported\"")
    );
    assert!(said(&broken.stderr).contains("broken.csv, line 2: plays must be a whole number"));
    assert!(said(&broken.stderr).contains("broken.csv, line 4: video a stands on line 1 already"));
    assert_eq!(total(&url), 3);
    let id =
        get(&format!("{url}/api/imports"))["imports"][0]["import"].as_str().unwrap().to_owned();
    assert_exit(&run(dir.path(), &url, &["import", &id, "--undo"]), 0);
    assert_eq!(total(&url), 0);
}

#[test]
fn videos_are_hidden_deleted_corrected_and_shown_again() {
    let dir = tempfile::tempdir().unwrap();
    let (_dashboard, url) = dashboard(dir.path());
    std::fs::write(dir.path().join("counts.csv"), "-abc,1000\na/b?c,500\nd,30\n").unwrap();
    assert_exit(&run(dir.path(), &url, &["import", "counts.csv"]), 0);
    let ok = |args: &[&str], want: &str| {
        // The ids stand behind everything else.
        let (args, ids) =
            args.split_at(args.iter().position(|arg| *arg == "--").unwrap_or(args.len()));
        let done = output(dir.path(), &[args, &["--dashboard-url", &url], ids].concat());
        assert_exit(&done, 0);
        assert_eq!(said(&done.stdout), want, "{args:?}");
    };
    ok(
        &["video", "hide", "--reason", "rights", "--", "-abc", "a/b?c"],
        "-abc: hidden\na/b?c: hidden\n",
    );
    assert_eq!(total(&url), 1530);
    ok(&["video", "delete", "--reason", "not ours", "a/b?c"], "a/b?c: deleted\n");
    assert_eq!(total(&url), 1030);
    for _ in 0..2 {
        ok(
            &["video", "correct", "--plays", "-10", "--reason", "bots", "d"],
            "d: -10 plays to what is counted\n",
        );
        assert_eq!(total(&url), 1020);
    }
    let list = run(dir.path(), &url, &["video", "list"]);
    let list = said(&list.stdout);
    for want in [
        "-abc: hidden since ",
        "a/b?c: deleted since ",
        " (not ours)\n",
        "d: -10 plays to 30 counted, since ",
        "3 videos are hidden",
    ] {
        assert!(list.contains(want), "{want}\nis not in\n{list}");
    }
    ok(&["video", "show", "--", "-abc", "a/b?c"], "-abc: shown\na/b?c: shown\n");
    ok(
        &["video", "correct", "--plays", "0", "--reason", "checked", "d"],
        "d: not corrected any more\n",
    );
    assert_eq!(total(&url), 1530);
    // One that nobody has played is told, and spoils no other.
    let done = run(dir.path(), &url, &["video", "hide", "--reason", "x", "nobody", "d"]);
    assert_exit(&done, 1);
    assert_eq!(said(&done.stdout), "d: hidden\n");
    assert!(said(&done.stderr).contains("1 of 2 videos were refused"), "{}", said(&done.stderr));
    let long = run(dir.path(), &url, &["video", "hide", "d", "--reason", &"x".repeat(301)]);
    assert!(said(&long.stderr).contains("a reason has at most 300 characters, not 301"));
}

#[test]
fn writes_need_the_token_and_a_wrong_file_is_told_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["dashboard", "--http-address", "127.0.0.1:0", "--write-token", "s3cret"];
    let mut dashboard = Running::start(dir.path(), &args);
    let url = dashboard.wait_for("live at ").trim_end_matches(';').to_owned();
    std::fs::write(dir.path().join("a.csv"), "a,1\n").unwrap();
    for args in [
        &["titles", "import", "a.csv"][..],
        &["import", "a.csv"],
        &["video", "hide", "a", "--reason", "x"],
    ] {
        let refused = run(dir.path(), &url, args);
        assert_exit(&refused, 1);
        assert!(
            said(&refused.stderr).contains("it wants a write token"),
            "{args:?} {}",
            said(&refused.stderr)
        );
    }
    assert_exit(&run(dir.path(), &url, &["import", "a.csv", "--write-token", "s3cret"]), 0);
    for (args, want) in [
        (&["titles", "import", "none.csv"][..], "cannot read none.csv: No such file"),
        (&["titles", "import", "."], "cannot read .: is a directory"),
        (&["import", "--list", "a.csv"], "--list goes with nothing else"),
        (&["import"], "import needs the CSV file"),
        (&["import", "--undo"], "--undo needs the file that was imported, or an import's id"),
    ] {
        let wrong = run(dir.path(), &url, args);
        assert_exit(&wrong, 1);
        let stderr = said(&wrong.stderr);
        assert!(stderr.contains(want) && stderr.lines().count() == 1, "{args:?} {stderr}");
    }
}
