//! Help texts and error messages, word for word; `TRYCMD=overwrite cargo test --test help` writes them anew.

#[test]
fn help_and_errors_read_as_written_down() {
    trycmd::TestCases::new().case("tests/cmd/*.trycmd");
}
