// One image at a time: real or synthetic?
import { choice, register } from "../controls.js";

register("real_synthetic", {
  render: (page) => [
    choice("Real", "R", page.response?.real === true, () => page.respond({ real: true })),
    choice("Synthetic", "S", page.response?.real === false, () => page.respond({ real: false })),
  ],

  complete: (page) => page.response !== null,

  key(page, pressed) {
    if (!["r", "s"].includes(pressed)) return false;
    page.respond({ real: pressed === "r" });
    return true;
  },

  truth: (page, real) => `The image is ${real.length ? "real" : "synthetic"}.`,
});
