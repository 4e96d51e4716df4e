// Two images side by side: which one is real?
import { choice, letter, realImages, register } from "../controls.js";

register("pairwise", {
  render: (page) => page.task.items.map((item, i) =>
    choice(`Image ${letter(i)}`, letter(i), page.response?.chosen === item, () => page.respond({ chosen: item }))),

  complete: (page) => page.response !== null,

  key(page, pressed) {
    if (!["a", "b"].includes(pressed)) return false;
    page.respond({ chosen: page.task.items["ab".indexOf(pressed)] });
    return true;
  },

  truth: realImages,

  isChosen: (page, item) => page.response?.chosen === item,
});
