//! What is refused when a channel is opened, and how that reads.

use hostbus_notifier::channels::Channel;

use crate::standin::notices::try_channel;

#[test]
fn a_wrong_setting_is_refused_by_key_and_with_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "1234:hunter2hunter2hunter2hunter2").unwrap();
    let bad = folder.path().join("bad");
    std::fs::write(&bad, "hunter2\nand more").unwrap();
    let template = folder.path().join("text.j2");
    std::fs::write(&template, "one\n{% if %}").unwrap();
    let (token, bad, template) = (
        format!("token_file = {token:?}"),
        format!("{bad:?}"),
        format!("{template:?}"),
    );
    let check = |settings: &str, parts: &[&str]| {
        let Err(error) = try_channel(settings) else {
            panic!("{settings} was taken");
        };
        let text = error.to_string();
        for part in parts {
            assert!(text.contains(part), "`{text}` lacks `{part}`");
        }
        assert!(!text.contains("hunter2"), "{text}");
    };
    let hook = "type = \"webhook\"\nurl = \"https://example.org/\"\n";
    for kind in ["webhook", "feishu", "dingtalk", "wecom"] {
        let settings = format!("type = \"{kind}\"");
        check(
            &settings,
            &["`notifier.channels.ops` needs `url_file`, `url_env` or `url`"],
        );
        let settings = format!("type = \"{kind}\"\nurl = \"hunter2\"");
        check(
            &settings,
            &["`notifier.channels.ops.url`", "https://host/path"],
        );
    }
    for kind in ["feishu", "dingtalk", "wecom"] {
        let settings = format!("type = \"{kind}\"\nurl = \"http://example.org/hunter2\"");
        check(&settings, &["`https`", "token"]);
    }
    check(
        &format!("{hook}url_env = \"PATH\""),
        &["both `url` and `url_env`"],
    );
    check(
        &format!("{hook}secret_env = \"HOSTBUS_NO_SUCH\""),
        &[
            "`notifier.channels.ops.secret_env`",
            "`HOSTBUS_NO_SUCH` is not set",
        ],
    );
    check(
        &format!("{hook}zone = \"Mars/Olympus\""),
        &["`Mars/Olympus`", "Europe/Berlin"],
    );
    check(
        &format!("{hook}messages = 0"),
        &["`notifier.channels.ops.messages`", "1 to 50"],
    );
    check(
        &format!("{hook}title_template = \"{{{{ x\""),
        &["`notifier.channels.ops.title_template`", "in line 1"],
    );
    check(
        &format!("{hook}text_template = \"a\\n{{{{ alert.summary }}}}\""),
        &[
            "`notifier.channels.ops.text_template`",
            "a name that is not there",
            "in line 2",
        ],
    );
    check(
        &format!("{hook}text_template = \"a\\n{{{{ alerts | sparkle }}}}\""),
        &["sparkle", "in line 2"],
    );
    check(
        &format!(
            "{hook}text_template = \"{{% for a in range(9999) %}}{{% for b in range(9999) %}}{{% endfor %}}{{% endfor %}}\""
        ),
        &["too many steps"],
    );
    check(
        &format!("{hook}text_template = \"{{% include '/etc/passwd' %}}\""),
        &["template not found"],
    );
    check(
        &format!("{hook}text_template_file = {template}"),
        &["`notifier.channels.ops.text_template_file`", "in line 2"],
    );
    check(
        &format!("{hook}text_template_file = {template}\ntext_template = \"x\""),
        &["both `text_template` and `text_template_file`"],
    );
    check(
        &format!("{hook}body_template_file = \"/no/such/file\""),
        &[
            "`notifier.channels.ops.body_template_file`",
            "/no/such/file",
        ],
    );
    check(
        &format!("{hook}body_template = '{{\"text\": \"{{{{ title }}}}\"}}'"),
        &[
            "`notifier.channels.ops.body_template`",
            "no JSON",
            "quotation marks",
        ],
    );
    for (key, value, part) in [
        ("headers", "{ \"a b\" = \"c\" }", "a header's name"),
        (
            "headers",
            "{ Content-Type = \"text/plain\" }",
            "does not set itself",
        ),
        ("headers", "{ a = \"hunter2\\nb\" }", "without line ends"),
        (
            "headers_file",
            &format!("{{ a = {bad} }}"),
            "without line ends",
        ),
        ("headers_env", "{ a = \"HOSTBUS_NO_SUCH\" }", "is not set"),
    ] {
        check(
            &format!("{hook}{key} = {value}"),
            &["`notifier.channels.ops.headers", part],
        );
    }
    check(
        &format!("{hook}headers = {{ A = \"b\" }}\nheaders_env = {{ a = \"PATH\" }}"),
        &["each header once"],
    );
    check(
        "type = \"telegram\"",
        &["`token_file` or `token_env`", "@BotFather"],
    );
    let telegram = format!("type = \"telegram\"\n{token}\n");
    check(&telegram, &["`notifier.channels.ops.chat_id`", "@name"]);
    check(&format!("{telegram}chat_id = 0"), &["found 0"]);
    check(&format!("{telegram}chat_id = \"web ops\""), &["`web ops`"]);
    check(
        &format!("{telegram}chat_id = 5\nbase_url = \"http://example.org\""),
        &["`notifier.channels.ops.base_url`"],
    );
    check(
        &format!("type = \"telegram\"\ntoken_file = {bad}\nchat_id = 5"),
        &["`notifier.channels.ops.token_file`", "not shown"],
    );
}

#[test]
fn a_channel_may_be_used_from_any_thread() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Channel>();
}
