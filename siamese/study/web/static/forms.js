// The administrator's forms: what was typed is kept in this tab until it was stored, fields are checked before a file is sent, links are copied.
const KEY = "studies draft ";
const typed = (form) => [...form.elements].filter((e) => e.name && e.name !== "csrf" && !["file", "password", "submit", "button"].includes(e.type));

function read(key) { try { return JSON.parse(sessionStorage.getItem(key)); } catch { return null; } }
// A browser may refuse to store anything; the form works all the same.
function write(key, value) { try { sessionStorage.setItem(key, JSON.stringify(value)); } catch { return; } }

// Drafts that were sent and have led to another page than the form's are stored on the server by now. The pages without a form of
// their own (to log in, a refusal) decide nothing.
function forget() {
  if (!document.querySelector("[data-stored]")) return;
  for (const key of Object.keys(sessionStorage)) if (key.startsWith(KEY) && read(key)?.sent) sessionStorage.removeItem(key);
}

function forgetAll() {
  for (const key of Object.keys(sessionStorage)) if (key.startsWith(KEY)) sessionStorage.removeItem(key);
}

function keep(form) {
  const key = KEY + form.dataset.draft, draft = read(key);
  const save = (sent) => write(key, { sent, values: typed(form).map((e) => [e.name, e.type === "checkbox" ? e.checked : e.value]) });
  // What the server has brought back after an error is at least as new as the draft.
  if ("kept" in form.dataset) save(false);
  else if (draft) {
    for (const [name, value] of draft.values) {
      const field = form.elements.namedItem(name);
      if (field?.type === "checkbox") field.checked = value; else if (field) field.value = value;
    }
  }
  form.addEventListener("input", () => save(false));
  form.addEventListener("submit", () => save(true));
}

function tell(form, problems) {
  const box = form.querySelector('[role="alert"]'), list = document.createElement("ul");
  for (const [name, said] of Object.entries(problems)) {
    const link = Object.assign(document.createElement("a"), { href: `#create-${name}`, textContent: said[0].toUpperCase() + said.slice(1) });
    const item = document.createElement("li");
    item.append(link);
    list.append(item);
  }
  for (const field of typed(form)) field.ariaInvalid = field.name in problems ? "true" : null;
  const head = Object.assign(document.createElement("p"), { textContent: "Nothing was sent yet. Change these:" });
  box.replaceChildren(head, list);
  box.hidden = false;
  box.focus();
  form.dispatchEvent(new Event("input"));  // the draft is not sent
}

// A file of hundreds of MiB is sent only once nothing is wrong with the other fields: what is sent cannot be kept by the page.
async function check(form) {
  const file = form.querySelector('input[type="file"]'), data = new FormData(form), chosen = file?.files[0];
  if (chosen && chosen.size > Number(file.dataset.most)) {
    return { [file.name]: `the file has ${Math.ceil(chosen.size / 2 ** 20)} MiB; up to ${Number(file.dataset.most) / 2 ** 20} MiB can be sent. For more, name a folder on the server.` };
  }
  if (!form.dataset.check) return {};
  if (file) data.delete(file.name);
  data.set("chosen", chosen?.name ?? "");
  const response = await fetch(form.dataset.check, { method: "POST", body: data, cache: "no-store" });
  return response.ok ? (await response.json()).problems : {};  // whatever else is wrong, the server's page says it
}

for (const form of document.querySelectorAll("form[data-draft]")) keep(form);
for (const form of document.querySelectorAll("form[data-check]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button.primary");
    button.disabled = true;
    let problems = {};
    try { problems = await check(form); } catch { problems = { id: "the server cannot be reached. Try again." }; }
    button.disabled = false;
    if (Object.keys(problems).length) tell(form, problems); else form.submit();
  });
}
for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break;  // without an encrypted connection there is none; the text can be selected
  button.hidden = false;
  button.addEventListener("click", async () => {
    const from = document.getElementById(button.dataset.copy);
    const lines = [...(from.rows ?? [])].map((row) => `${row.cells[0].textContent}\t${row.cells[1].textContent}`);
    await navigator.clipboard.writeText(lines.length ? lines.join("\n") : from.textContent);
    button.firstChild.textContent = "Copied";
  });
}
document.querySelector('form[action$="/logout"]')?.addEventListener("submit", forgetAll);
forget();
