// What the raters' page shares with the protocols' scripts. A protocol's script calls `register` once.

// By the protocol's name, an object with
//   render(page)               the elements of #choices for page.task and page.response
//   complete(page)             whether page.response answers the whole screen
//   key(page, pressed, digit)  takes a key (in lower case; digit is 1 to 10 or null) and says whether it was one of its own
//   truth(page, real)          a sentence for a practice screen with these ids of real images
//   isChosen(page, item)       whether an image is framed; optional
// The page has study, task, response, ready() and respond(response), which stores a response and draws again.
export const protocols = new Map();
export function register(name, protocol) { protocols.set(name, protocol); }

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// A button that is pressed or not, with the key that does the same.
export function choice(label, hint, pressed, act) {
  const button = element("button", { type: "button", ariaPressed: String(pressed) }, label, ...(hint ? [" ", element("kbd", { textContent: hint })] : []));
  button.addEventListener("click", act);
  return button;
}

// Images are called A, B, ... from left to right.
export const letter = (index) => String.fromCharCode(65 + index);

// "Real: image A." for screens with several images.
export function realImages(page, real) {
  const names = page.task.items.map((item, i) => real.includes(item) ? letter(i) : null).filter(Boolean);
  return names.length ? `Real: image ${names.join(", ")}.` : "No image is real.";
}
