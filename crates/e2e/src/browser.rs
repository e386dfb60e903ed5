//! A real browser: Debian's Chromium, driven through ChromeDriver (W3C WebDriver).

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use thirtyfour::TypingData;
use thirtyfour::prelude::*;

use crate::Server;

/// Chromium's flags: without a window, in a container too, and asking nobody else for anything.
const FLAGS: [&str; 6] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
];

/// Says what has the focus, and whether somebody who looks can tell.
const FOCUSED: &str = "
    const it = document.activeElement;
    const words = (node) => node?.textContent.replace(/\\s+/g, ' ').trim();
    const by = it.getAttribute('aria-labelledby')?.split(' ').map((id) => words(document.getElementById(id))).join(' ');
    const name = it === document.body ? 'body' : it.getAttribute('aria-label') || by || words(it.labels?.[0]) || words(it) || it.id;
    const box = it.getBoundingClientRect();
    const style = getComputedStyle(it);
    const drawn = it.querySelector?.(':scope > rect');
    const shown = drawn ? parseFloat(getComputedStyle(drawn).strokeWidth) >= 3 : style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
    const within = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
    const quiet = it === document.body || it.id === 'main';
    return { name, fault: quiet ? null : !shown ? 'no outline' : !within ? 'out of sight' : null };
";

/// Violations of these impacts are faults.
const SERIOUS: [&str; 2] = ["serious", "critical"];

/// A browser with one page; ended when it is dropped.
pub struct Browser {
    /// What drives it.
    pub driver: WebDriver,
    chromedriver: Child,
    _profile: tempfile::TempDir,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Width of the page in CSS pixels.
    pub width: u32,
    /// Whether the browser prefers dark pages.
    pub dark: bool,
}

// === impl Look ===

impl Look {
    /// The looks at which every page has to do: a desk and a phone, by day and by night.
    pub const ALL: [Self; 4] = [
        Self { width: 1440, dark: false },
        Self { width: 1440, dark: true },
        Self { width: 390, dark: false },
        Self { width: 390, dark: true },
    ];
}

// === impl Browser ===

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When Chromium or ChromeDriver is not installed: `cargo xtask test` installs both.
    pub async fn start() -> Self {
        let mut chromedriver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("ChromeDriver starts; `cargo xtask test` installs it");
        let output = BufReader::new(chromedriver.stdout.take().expect("piped"));
        let port = output
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split("started successfully on port ").nth(1).map(str::to_owned))
            .expect("ChromeDriver names its port");
        let port = port.trim_end_matches('.').to_owned();
        let profile = tempfile::tempdir().expect("a directory");
        let mut capabilities = DesiredCapabilities::chrome();
        for flag in FLAGS {
            capabilities.add_arg(flag).expect("a flag");
        }
        capabilities.add_arg(&format!("--user-data-dir={}", profile.path().display())).expect("a flag");
        let driver =
            WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities).await.expect("a browser");
        let browser = Self { driver, chromedriver, _profile: profile };
        browser.look(Look { width: 1440, dark: false }).await;
        browser
    }

    /// Opens a page.
    ///
    /// # Panics
    ///
    /// When the browser does not answer, as all methods here.
    pub async fn open(&self, url: &str) {
        self.driver.goto(url).await.expect("opens");
    }

    /// Clicks the one link or button of a name, once it is there.
    pub async fn click(&self, name: &str) {
        let path = format!(
            "//*[self::a or self::button or self::summary][normalize-space(.)='{name}' and not(ancestor::*[contains(@class,'narrow ')])]"
        );
        self.driver
            .query(By::XPath(path))
            .and_displayed()
            .first()
            .await
            .unwrap_or_else(|error| panic!("nothing to click named `{name}`: {error}"))
            .click()
            .await
            .unwrap_or_else(|error| panic!("`{name}` cannot be clicked: {error}"));
    }

    /// Clicks what a CSS selector finds: parts of drawings, fields.
    pub async fn click_on(&self, selector: &str) {
        let found = self.driver.query(By::Css(selector)).first().await;
        found
            .unwrap_or_else(|error| panic!("nothing is `{selector}`: {error}"))
            .click()
            .await
            .expect("clicks");
    }

    /// Turns the switch of a label.
    pub async fn turn(&self, label: &str) {
        let path = format!("//button[@role='switch'][@aria-labelledby=//strong[.='{label}']/@id]");
        self.driver.query(By::XPath(path)).first().await.expect("a switch").click().await.expect("turns");
    }

    /// Writes into the field of a label's element id.
    pub async fn fill(&self, id: &str, text: &str) {
        let field = self.driver.query(By::Id(id)).first().await.expect("a field");
        field.clear().await.expect("clears");
        field.send_keys(text).await.expect("takes text");
    }

    /// Writes over what stands in a field, without emptying it first, which would be a change of its own.
    pub async fn overwrite(&self, id: &str, text: &str) {
        let field = self.driver.query(By::Id(id)).first().await.expect("a field");
        field.send_keys(Key::Control + "a").await.expect("selects");
        field.send_keys(text).await.expect("takes text");
    }

    /// Ticks or chooses the input of a name and a value.
    pub async fn choose(&self, name: &str, value: &str) {
        let selector = format!("input[name='{name}'][value='{value}']");
        self.driver.query(By::Css(selector)).first().await.expect("an input").click().await.expect("clicks");
    }

    /// Presses a key, or writes a text, where the focus is.
    pub async fn press(&self, keys: impl Into<TypingData>) {
        self.driver.action_chain().send_keys(keys).perform().await.expect("takes keys");
    }

    /// Selects all that stands in the field with the focus.
    pub async fn select_all(&self) {
        let keys = self.driver.action_chain().key_down(Key::Control).send_keys("a").key_up(Key::Control);
        keys.perform().await.expect("takes keys");
    }

    /// Returns what the element with the focus is called.
    ///
    /// # Panics
    ///
    /// When it has the focus and does not show it, or stands where nobody sees it.
    pub async fn focused(&self) -> String {
        let (name, fault) = self.focus().await;
        assert_eq!(fault, None, "the focus on `{name}` cannot be seen");
        name
    }

    /// Returns what has the focus, and why nobody would see that.
    async fn focus(&self) -> (String, Option<String>) {
        let found = self.evaluate(FOCUSED).await;
        let text = |field| found.get(field).and_then(Value::as_str).map(str::to_owned);
        (text("name").unwrap_or_default(), text("fault"))
    }

    /// Goes on with the Tab key until what is called so has the focus.
    ///
    /// # Panics
    ///
    /// When nothing is called so; with what was met on the way.
    pub async fn tab_to(&self, name: &str) {
        let mut met = Vec::new();
        for _ in 0..120 {
            self.press(Key::Tab).await;
            let at = self.focused().await;
            if at == name {
                return;
            }
            met.push(at);
        }
        panic!("the Tab key does not lead to `{name}`: {met:#?}");
    }

    /// Waits until what is called so has the focus.
    ///
    /// # Panics
    ///
    /// When something else keeps it.
    pub async fn see_focus_on(&self, name: &str) {
        for _ in 0..100 {
            if self.focus().await.0 == name {
                return;
            }
            self.driver
                .execute_async("requestAnimationFrame(arguments[0]);", Vec::new())
                .await
                .expect("waits");
        }
        panic!("the focus is on `{}`, not on `{name}`", self.focus().await.0);
    }

    /// Waits until the page shows a text, and returns everything that it shows.
    pub async fn see(&self, text: &str) -> String {
        let path = format!("//body[contains(normalize-space(.), '{text}')]");
        match self.driver.query(By::XPath(path)).first().await {
            Ok(_) => self.text().await,
            Err(_) => panic!("the page does not show `{text}`: {}", self.text().await),
        }
    }

    /// Returns everything that the page shows.
    pub async fn text(&self) -> String {
        // The page may be replaced between finding its body and reading it.
        for _ in 0..20 {
            let body = self.driver.query(By::Tag("body")).first().await.expect("a page");
            if let Ok(text) = body.text().await {
                return text;
            }
        }
        panic!("the page is replaced again and again");
    }

    /// Signs in as the first administrator, with the password that the server printed when it started.
    pub async fn sign_in_first(&self, server: &Server<'_>) {
        let password = server
            .banner
            .split("admin, password ")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
            .expect("the first password");
        self.open(server.url("console")).await;
        self.fill("user", "admin").await;
        self.fill("password", password).await;
        self.click("Sign in").await;
        self.see("how it stands to policy version").await;
    }

    /// Checks that the page is accessible, and takes its pictures.
    pub async fn check(&self, name: &str) {
        self.assert_accessible(name).await;
        self.photograph(name).await;
    }

    /// Changes how pages are looked at.
    pub async fn look(&self, look: Look) {
        let scheme = if look.dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.develop("Emulation.setEmulatedMedia", media).await;
        let screen =
            json!({ "width": look.width, "height": 900, "deviceScaleFactor": 1, "mobile": look.width < 600 });
        self.develop("Emulation.setDeviceMetricsOverride", screen).await;
    }

    async fn develop(&self, command: &str, parameters: Value) -> Value {
        self.driver.cdp().send_raw(command, parameters).await.expect("the browser does it")
    }

    /// Saves a picture of the whole page as `target/screenshots/NAME-WIDTH-light.png` at every look.
    pub async fn photograph(&self, name: &str) {
        let directory = root().join("target/screenshots");
        std::fs::create_dir_all(&directory).expect("a directory");
        for look in Look::ALL {
            self.look(look).await;
            let width = self.evaluate("return document.documentElement.scrollWidth;").await;
            assert!(
                width.as_u64().is_some_and(|width| width <= u64::from(look.width)),
                "{name} is wider than {} px: {width}",
                look.width
            );
            let picture =
                self.develop("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
            let bytes = picture.get("data").and_then(Value::as_str).and_then(from_base64).expect("a picture");
            let scheme = if look.dark { "dark" } else { "light" };
            std::fs::write(directory.join(format!("{name}-{}-{scheme}.png", look.width)), bytes)
                .expect("saved");
        }
        self.look(Look { width: 1440, dark: false }).await;
    }

    /// Checks the page against WCAG 2.2 A and AA with axe-core, light and dark.
    ///
    /// # Panics
    ///
    /// With each serious or critical violation; when axe-core is not there: `cargo xtask test` brings it.
    pub async fn assert_accessible(&self, name: &str) {
        let path = root().join("target/npm/axe-core/axe.min.js");
        let axe = std::fs::read_to_string(path).expect("axe-core; `cargo xtask test` brings it");
        for look in [Look { width: 1440, dark: false }, Look { width: 390, dark: true }] {
            self.look(look).await;
            let script = format!(
                "const done = arguments[0]; {axe};
                 axe.run({{ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }})
                    .then((found) => done(found.violations.map((it) =>
                        ({{ id: it.id, impact: it.impact, nodes: it.nodes.map((node) => node.html + ' ' + node.failureSummary) }}))))"
            );
            let found = self.driver.execute_async(script, Vec::new()).await.expect("axe runs");
            let found = found.json().as_array().cloned().expect("a list");
            let serious: Vec<&Value> = found
                .iter()
                .filter(|it| it["impact"].as_str().is_some_and(|impact| SERIOUS.contains(&impact)))
                .collect();
            assert!(serious.is_empty(), "{name} at {look:?}: {serious:#?}");
        }
        self.look(Look { width: 1440, dark: false }).await;
    }

    async fn evaluate(&self, script: &str) -> Value {
        self.driver.execute(script, Vec::new()).await.expect("runs").json().clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser with it.
        let _ = self.chromedriver.kill();
        let _ = self.chromedriver.wait();
    }
}

/// Returns the root of the workspace.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;

    base64::engine::general_purpose::STANDARD.decode(text).ok()
}
