//! Building a pipeline in a real browser: the drawing, the forms, the file, the versions, a trial.

use tollgate_e2e::{Browser, Home, Server};

const FILE: &str = "kind: Pipeline
name: orders
project: store
description: Orders of the shop
trigger:
  type: rest
  methods: [GET]
  externalApi: true # for the shop
  apiKey: true
sensitiveFields: [email]
steps:
  # Nobody asks without a number.
  - assert: { condition: has(message.queryAndPath.id), status: 400, error: an id is needed }
  - choice:
      when:
        - condition: message.queryAndPath.id == \"1\"
          steps:
            - block:
                steps:
                  - log: { message: the first }
                  - json: { id: 1, email: a@b.example }
                onError:
                  - json: { id: 0 }
      otherwise:
        - respond: { status: 404, body: { error: no such order } }
  - json: { order: \"{{ message }}\" }
    name: wrap
";

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_built_by_drawing_forms_and_file() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    server.read_until("  API token");
    let browser = Browser::start().await;
    browser.sign_in_first(&server).await;
    let console = format!("{}/realms/default", server.url("console"));

    browser.open(&format!("{console}/new-pipeline")).await;
    browser.fill("document", FILE).await;
    browser.see("Would be saved as orders 1.0").await;
    browser.see("Calls per minute").await;
    browser.check("build-trigger").await;

    // A field of the trigger is written into the file, beside the comments.
    browser.overwrite("f:/trigger/rateLimit/limits#minute", "many").await;
    browser.click_on("[id='f:/trigger/timeoutMs']").await;
    browser.see("See what is wrong").await;
    browser.check("build-fault").await;
    browser.overwrite("f:/trigger/rateLimit/limits#minute", "60").await;
    browser.click_on("[id='f:/trigger/timeoutMs']").await;
    browser.see("Would be saved as orders 1.0").await;

    // A step is chosen in the drawing.
    browser.click_on("a[data-step='/steps/1'] rect").await;
    browser.see("Step 2: choice").await;
    browser.see("Branch 1").await;
    browser.check("build-step").await;

    // A trial shows the message after every step, and no sensitive field.
    browser.fill("sample", "queryAndPath: { id: \"1\" }").await;
    browser.click("Run").await;
    let shown = browser.see("Answer in test: 200").await;
    assert!(shown.contains("took: branch 1") && shown.contains("log info: the first"), "{shown}");
    assert!(shown.contains("\"email\": \"***\""), "{shown}");
    browser.check("build-trial").await;

    browser.click("Save as the next version").await;
    browser.see("The flow in words").await;
    browser.check("build-pipeline").await;

    browser.open(&format!("{console}/pipelines/orders/edit?step=/steps/2")).await;
    browser.see("Step wrap: json").await;
    browser.click("Move up").await;
    browser.see("Would be saved as orders 1.1").await;
    browser.click("Save as the next version").await;
    browser.see("The flow in words").await;
    browser.click("Compare").await;
    browser.see("From 1.0 to 1.1").await;
    browser.check("build-versions").await;

    browser.open(&format!("{console}/pipelines?q=ord")).await;
    browser.see("orders").await;
    browser.check("build-list").await;
}
