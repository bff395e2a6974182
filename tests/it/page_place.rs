//! A reload comes back to where the reader was, in a real Chromium.

use crate::dashboard_support::{start, video};
use crate::page_support::{launch, open, read, text, wait_for};

#[test]
fn a_reload_comes_back_to_the_place() {
    let Some(browser) = launch() else { return };
    let running = start();
    for version in 0..15 {
        let counts: Vec<_> = (0..15).map(|n| (video(version * 15 + n), u64::from(n) + 1)).collect();
        running.tell(u64::from(version) + 1, &counts);
    }
    let url = running.dashboard.url();
    let (tab, _) = open(&browser, &url);
    wait_for(&tab, "document.querySelectorAll('#top-rows tr').length", 10);
    read(&tab, "scrollTo(0, 600)");
    wait_for(&tab, "scrollY", 600);
    tab.reload(true, None).unwrap().wait_until_navigated().unwrap();
    wait_for(&tab, "document.querySelectorAll('#top-rows tr').length", 10);
    wait_for(&tab, "scrollY", 600);

    // The list of videos scrolls by itself; its place is that of its rows.
    let (list, _) = open(&browser, &format!("{url}/?view=videos"));
    wait_for(&list, "document.querySelector('#videos').ariaRowCount", "226");
    read(&list, "document.querySelector('#videos').scrollTop = 3000");
    let top = "document.querySelector('#videos').scrollTop";
    wait_for(&list, top, 3000);
    wait_for(&list, &format!("{}.startsWith('1–')", text("#videos-place")), false);
    let place = read(&list, &text("#videos-place"));
    list.reload(true, None).unwrap().wait_until_navigated().unwrap();
    wait_for(&list, &text("#videos-place"), place);
    wait_for(&list, top, 3000);
    // A visit is none: it begins at the start.
    list.navigate_to(&format!("{url}/?view=videos&sort=plays")).unwrap();
    wait_for(&list, &format!("{}.startsWith('1–')", text("#videos-place")), true);
}
