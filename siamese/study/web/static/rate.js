// The rater's page. All text is set as text, never as HTML. The link's own address is the only thing that says who rates.
// What differs between protocols is in a script and a template part of each.
import { choice, element, letter, protocols } from "./controls.js";

const base = location.pathname.replace(/\/+$/, "");
const at = (id) => document.getElementById(id);
const blobs = new Map();        // item id -> promise of an object URL
let study, protocol, question, step, task, answer, correcting = false, sending = false, shownAt = 0, key = "", waiting = null, retry = null;

const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1);
const counted = (number, name) => `${number} ${name}${number === 1 ? "" : "s"}`;
function text(id, value) { at(id).textContent = value; }
function show(...ids) { for (const id of ["welcome", "rating", "done"]) at(id).hidden = !ids.includes(id); }
function notice(message) { text("notice", sentence(message ?? "")); at("notice").hidden = !message; if (!message) { at("again").hidden = true; } }

class Refused extends Error { constructor(status, message) { super(message); this.status = status; } }

// What the server may do later: it cannot be reached, restarts, or its database is away.
const LATER = [0, 502, 503, 504, 507];

async function ask(path, body) {
  let response;
  try {
    response = await fetch(base + path, body === undefined ? { cache: "no-store" } : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), cache: "no-store" });
  } catch { throw new Refused(0, `The server cannot be reached.${path === "/api/answer" ? " Your answer is not stored yet." : ""}`); }
  let value = null;
  try { value = await response.json(); } catch { /* an error page of a proxy in between */ }
  if (!response.ok || value === null) {
    throw new Refused(response.status, value?.error ?? `The server could not do this (${response.status}).`);
  }
  return value;
}

// Repeats `act` until it is done or refused for good, and says that it waits; gives up once it is not `wanted` any more.
async function persist(act, wanted = () => true) {
  let announced = false;
  for (let pause = 300; ; pause = Math.min(2 * pause, 5000)) {
    try {
      const value = await act();
      if (announced) notice(null);
      return value;
    } catch (error) {
      if (!LATER.includes(error.status) || !wanted()) throw error;
      notice(error.message + " Trying again…");
      announced = true;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

// A request that can be repeated: an answer has the same key each time, the others change nothing the second time.
async function insist(path, body) {
  const value = await persist(() => ask(path, body));
  notice(null);
  return value;
}

function picture(item) {
  if (!blobs.has(item)) {
    const loading = fetch(`${base}/image/${item}`, { cache: "no-store" }).catch(() => { throw new Refused(0, "The server cannot be reached."); })
      .then(async (response) => {
        if (!response.ok) throw new Refused(response.status, "An image could not be loaded.");
        return URL.createObjectURL(await response.blob().catch(() => { throw new Refused(0, "The server cannot be reached."); }));
      });
    loading.catch(() => blobs.delete(item));
    blobs.set(item, loading);
  }
  return blobs.get(item);
}

function forget(keep) {
  for (const [item, loading] of blobs) {
    if (!keep.includes(item)) { blobs.delete(item); loading.then(URL.revokeObjectURL, () => {}); }
  }
}

function fail(error, again) {
  notice(error.message);
  retry = again ?? null;
  at("again").hidden = !again;
  at("again").focus();
  at("notice").scrollIntoView({ block: "nearest" });
}

async function start() {
  notice(null);
  try { study = await insist("/api/state"); } catch (error) { show(); text("progress", ""); return fail(error); }
  document.title = study.title;
  text("title", study.title);
  text("here", study.title);
  text("instructions", study.instructions);
  text("menu-instructions", study.instructions);
  text("consent-text", study.consent);
  if (study.share !== null) { text("share", `${study.share} % of the images are real.`); at("share").hidden = false; }
  choose(study.protocol);
  at("menu-open").hidden = false;
  if (study.duration) text("amount", amount());
  if (study.registered) { step = study.step; await next(); } else show("welcome");
}

// How much there is to do, before somebody consents to do it.
function amount() {
  const one = study.images > 1 ? "screen" : "image";
  const each = study.images > 1 ? ` with ${study.images} images each` : "", { minutes, measured } = study.duration;
  const practice = study.training ? `, and before them ${counted(study.training, one)} for practice` : "";
  const pace = measured ? "by the pace of the raters so far" : "by a rough estimate, as few have rated yet";
  return `You will judge ${counted(study.total, one)}${each}${practice}. This takes about ${counted(minutes, "minute")}, ${pace}. You can stop at any time: your link continues where you were.`;
}

// Puts the protocol's part of the page in its place.
function choose(name) {
  protocol = protocols.get(name);
  const part = at(`protocol-${name}`).content.cloneNode(true);
  for (const count of part.querySelectorAll(".count")) count.textContent = study.images;
  const take = (selector) => { const found = part.querySelector(selector); found.remove(); return found.textContent; };
  question = take(".question");
  text("keys", take(".keys"));
  at("controls").replaceChildren(part);
}

// What a protocol's script sees and does; see controls.js.
const page = {
  get study() { return study; },
  get task() { return task; },
  get response() { return answer.response; },
  ready: () => ready(),
  respond(response) { if (ready()) { answer.response = response; update(); } },
};

async function next() {
  correcting = false;
  waiting = null;
  at("feedback").hidden = true;
  if (!step.task) {
    show("done");
    text("done-text", `All your ${counted(study.total, "answer")} are stored. Thank you for your time.`);
    at("bar").hidden = true;
    text("progress", `${study.total} of ${study.total}`);
    at("back-done").hidden = !step.can_go_back;
    return;
  }
  await present(step.task, {});
  for (const item of step.upcoming) picture(item).catch(() => {});
}

async function present(shown, given) {
  task = shown;
  answer = { response: given.response ?? null, confidence: given.confidence ?? null };
  key = crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  show("rating");
  text("progress", `${task.training ? "Practice " : ""}${task.number} of ${task.total}`);
  at("bar").hidden = false;
  at("bar").value = (task.number - 1) / task.total;
  at("comment").value = given.comment ?? "";
  at("comment-box").hidden = !study.comments;
  at("back").hidden = !correcting && !step.can_go_back;
  text("back", correcting ? "Leave it as it was" : "Correct last answer");
  // The buttons below stay where they are while the next image comes.
  at("stage").style.minHeight = `${at("stage").offsetHeight}px`;
  at("stage").replaceChildren();
  controls();
  let figures;
  try {
    const addresses = await persist(() => Promise.all(shown.items.map(picture)), () => task === shown);
    figures = await Promise.all(addresses.map((address, i) => figure(address, i, shown.items.length)));
  } catch (error) {
    if (task === shown) fail(error, () => present(shown, given));
    return;
  }
  if (task !== shown) return;
  forget([...shown.items, ...step.upcoming, ...(step.task?.items ?? [])]);
  at("stage").classList.toggle("many", figures.length > 1);
  at("stage").replaceChildren(...figures);
  at("stage").style.minHeight = "";
  update();
  shownAt = performance.now();
  requestAnimationFrame(() => { if (task === shown) shownAt = performance.now(); });
}

async function figure(address, index, count) {
  const label = count > 1 ? `Image ${letter(index)}` : "Image";
  const image = element("img", { src: address, alt: label, draggable: false });
  try { await image.decode(); } catch { throw new Refused(0, "An image could not be shown."); }
  // A fixed size in pixels of the page, the same for every image of the study.
  const side = count > 1 ? Math.min(image.naturalWidth, 420) : Math.min(image.naturalWidth, 720);
  const button = element("button", { type: "button", title: "Enlarge", ariaLabel: `Enlarge ${label.toLowerCase()}` }, image);
  button.addEventListener("click", (event) => {
    // After a click with the pointer Enter confirms again; somebody who came with the Tab key stays where they were.
    if (event.detail) button.blur();
    enlarge(image);
  });
  const made = element("figure", { className: "shown" }, button);
  made.style.setProperty("--side", `${side}px`);
  made.style.setProperty("--shape", `${image.naturalWidth} / ${image.naturalHeight}`);
  if (count > 1) made.append(element("figcaption", { textContent: letter(index) }));
  return made;
}

function controls() {
  text("question", correcting ? "Correct your last answer" : question);
  update();
}

function update() {
  const focused = document.activeElement?.dataset?.name;
  at("choices").replaceChildren(...protocol.render(page));
  at("levels")?.replaceChildren(...Array.from({ length: 10 }, (_, i) => {
    const made = choice(String(i + 1), "", answer.confidence === i + 1, () => confide(i + 1));
    made.ariaLabel = `Confidence ${i + 1} of 10`;
    return made;
  }));
  at("controls").querySelectorAll("button").forEach((b, i) => { b.dataset.name = `c${i}`; });
  if (focused) document.querySelector(`[data-name="${focused}"]`)?.focus();
  document.querySelectorAll(".shown").forEach((f, i) => f.classList.toggle("chosen", Boolean(protocol.isChosen?.(page, task.items[i]))));
  at("submit").disabled = !complete() || sending;
  at("submit").firstChild.textContent = waiting ? "Continue " : correcting ? "Store correction " : "Confirm ";
}

function complete() {
  if (waiting) return true;
  if (!answer.response || !at("stage").children.length) return false;
  return protocol.complete(page) && (!at("levels") || answer.confidence !== null);
}

const ready = () => !waiting && !sending && at("stage").children.length > 0;
function confide(level) { if (ready()) { answer.confidence = level; update(); } }

async function submit() {
  if (waiting) { const go = waiting; waiting = null; return go(); }
  if (!complete() || sending) return;
  sending = true;
  update();
  const body = { task: task.id, key, ...answer, confidence: at("levels") ? answer.confidence : null,
    comment: study.comments ? at("comment").value : "", client_ms: Math.min(Math.round(performance.now() - shownAt), 2 ** 31 - 1), correction: correcting };
  try {
    const done = await insist("/api/answer", body);
    step = done.step;
    sending = false;
    if (done.feedback) feedback(done.feedback); else await next();
  } catch (error) {
    sending = false;
    update();
    // After an answer in another window: what the server knows counts.
    if (error.status === 409) { await start(); notice(error.message); } else fail(error);
  }
}

function feedback(given) {
  const over = step.task && !step.task.training ? " The practice is over: from now on your answers count, without feedback." : "";
  text("feedback", `${given.correct ? "Right." : "Not right."} ${protocol.truth(page, given.real)}${over}`);
  at("feedback").className = given.correct ? "right" : "wrong";
  at("feedback").hidden = false;
  waiting = next;
  update();
  at("submit").focus();
}

async function back() {
  if (sending) return;
  // Away from this button: Enter is to confirm what comes, not to press it again.
  if (correcting) { await next(); at("question").focus(); return; }
  sending = true;
  try {
    const given = await insist("/api/previous");
    sending = false;
    correcting = true;
    at("feedback").hidden = true;
    await present(given.task, given);
    at("question").focus();
  } catch (error) {
    sending = false;
    fail(error);
  }
}

let scale = 2;
function enlarge(image) {
  const large = element("img", { src: image.src, alt: image.alt });
  at("zoom-view").replaceChildren(large);
  const apply = () => { large.style.width = `${image.naturalWidth * scale}px`; text("zoom-level", `${Math.round(scale * 100)} %`); };
  at("zoom-in").onclick = () => { scale = Math.min(scale * 1.5, 8); apply(); };
  at("zoom-out").onclick = () => { scale = Math.max(scale / 1.5, 0.5); apply(); };
  apply();
  at("zoom").showModal();
}

function keyboard(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") || at("rating").hidden) return;
  if (event.target.matches?.("input, textarea")) {
    if (event.key !== "Escape") return;
    event.target.blur();
  }
  const pressed = event.key?.toLowerCase() ?? "", digit = /^[0-9]$/.test(pressed) ? Number(pressed) || 10 : null;
  if (pressed === "enter") {
    // Enter always confirms; a focused choice is taken with the space bar.
    if (event.target.matches?.("#back, #again, #menu-open, .shown button, summary")) return;
    event.preventDefault();
    if (!event.repeat) submit();
  } else if (protocol.key(page, pressed, digit)) {  // the protocol's own
  } else if (digit && at("levels")) { confide(digit);
  } else if (pressed === "z") { document.querySelector(".shown button")?.click(); }
}

at("register").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (sending) return;
  sending = true;
  try {
    step = (await insist("/api/register", { pseudonym: at("pseudonym").value, role: at("role").value, consent: at("consent").checked })).step;
    sending = false;
    study.registered = true;
    await next();
  } catch (error) {
    sending = false;
    fail(error);
  }
});
at("answer").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
at("back").addEventListener("click", back);
at("back-done").addEventListener("click", back);
at("again").addEventListener("click", () => { const act = retry; notice(null); act?.(); });
at("menu-open").addEventListener("click", (event) => {
  if (event.detail) at("menu-open").blur();
  at("menu").showModal();
});
at("menu-close").addEventListener("click", () => at("menu").close());
at("zoom-close").addEventListener("click", () => at("zoom").close());
at("withdraw-sure").addEventListener("change", () => { at("withdraw").disabled = !at("withdraw-sure").checked; });
at("withdraw").addEventListener("click", async () => {
  at("withdraw").disabled = true;
  at("menu").close();  // what is said meanwhile stands on the page
  try {
    const { deleted } = await insist("/api/withdraw", { confirm: true });
    at("menu-open").hidden = at("bar").hidden = at("back-done").hidden = true;
    text("progress", "");
    show("done");
    at("afterwards").hidden = true;
    text("done-text", `Your data is deleted (${counted(deleted, "answer")}). This link no longer works.`);
  } catch (error) { fail(error); }
});
document.addEventListener("keydown", keyboard);
start();
