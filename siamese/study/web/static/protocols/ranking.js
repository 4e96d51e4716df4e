// A group's images side by side, each with a rank of its own; the highest is the best.
import { choice, element, letter, realImages, register } from "../controls.js";

const ranksOf = (page) => page.response?.ranks ?? {};

function rank(page, item, value) {
  // No ties: another image with this rank loses it.
  const ranks = Object.fromEntries(Object.entries(ranksOf(page)).filter(([i, r]) => i !== item && r !== value));
  ranks[item] = value;
  page.respond({ ranks });
}

register("ranking", {
  render: (page) => page.task.items.map((item, i) => element("div", { className: "rank", role: "group", ariaLabel: `Rank of image ${letter(i)}` },
    element("span", { textContent: `Image ${letter(i)}` }),
    ...page.task.items.map((_, r) => choice(String(r + 1), "", ranksOf(page)[item] === r + 1, () => rank(page, item, r + 1))))),

  complete: (page) => Object.keys(ranksOf(page)).length === page.task.items.length,

  // Digits rank the images from left to right, Backspace takes the last rank back; no other key does anything.
  key(page, pressed, digit) {
    const ranks = ranksOf(page), { items } = page.task;
    if (digit && digit <= items.length && !Object.values(ranks).includes(digit)) {
      const free = items.find((item) => !(item in ranks));
      if (free) rank(page, free, digit);
    } else if (pressed === "backspace" && page.ready()) {
      const kept = items.filter((item) => item in ranks).slice(0, -1);
      page.respond({ ranks: Object.fromEntries(kept.map((item) => [item, ranks[item]])) });
    }
    return true;
  },

  truth: realImages,
});
