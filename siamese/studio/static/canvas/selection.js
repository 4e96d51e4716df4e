// The selected lesions and their handles: drag inside to move, a corner to scale, the knob above to turn. While a handle is dragged the
// selected pixels are always warped from where they were at its beginning, so that a long drag loses no detail.
import { partOf, parts } from './components.js';
import { transform } from './edits.js';
import { Mask } from './mask.js';

const IDENTITY = { scaleX: 1, scaleY: 1, degrees: 0, right: 0, down: 0 };
const LEAST_FACTOR = 0.05;
export const CORNERS = ['nw', 'ne', 'se', 'sw'];

/** The tool "Move": selects lesions one by one, and changes those that are selected. */
export class Selection {
  constructor(sheet) {
    this.sheet = sheet;
    /** A mask of the selected pixels; null: all lesions are selected. */
    this.chosen = null;
  }

  /** The selected part of the mask. */
  selected() {
    const { mask } = this.sheet;
    if (!this.chosen || this.chosen.width !== mask.width || this.chosen.height !== mask.height) return mask;
    const out = new Mask(mask.width, mask.height, mask.pixels.map((pixel, i) => pixel & this.chosen.pixels[i]));
    return out.isEmpty() ? mask : out;
  }

  /** The rectangle around what is selected, in pixels of the drawing; null without a lesion. */
  box() {
    return this.selected().bounds();
  }

  /** Select the lesion at a point; without one there, select all. */
  choose(point) {
    const { mask } = this.sheet;
    const [x, y] = [Math.floor(point.x), Math.floor(point.y)];
    const { labels, sizes } = parts(mask);
    const label = mask.at(x, y) ? labels[y * mask.width + x] : 0;
    this.chosen = label && sizes.length > 2 ? partOf(mask, labels, label) : null;
    return label > 0;
  }

  /** Select the next lesion, in the order from the top; after the last one, all. Returns a sentence about it. */
  next() {
    const { mask } = this.sheet;
    const { labels, sizes } = parts(mask);
    const count = sizes.length - 1;
    if (count < 2) {
      this.chosen = null;
      return count ? 'There is one lesion, and it is selected.' : 'There is no lesion.';
    }
    const first = this.chosen ? this.chosen.pixels.indexOf(1) : -1;
    const now = first >= 0 ? labels[first] : 0;
    this.chosen = now < count ? partOf(mask, labels, now + 1) : null;
    return this.chosen ? `Lesion ${now + 1} of ${count} is selected.` : `All ${count} lesions are selected.`;
  }

  /** Forget the selection: the mask is another one. */
  reset() {
    this.chosen = null;
    this.drag = null;
  }

  down(point, { handle }) {
    if (!handle && !this.choose(point)) {
      this.drag = null;
      return;
    }
    this.begin(point, handle || 'inside');
  }

  begin(point, handle) {
    const moving = this.selected().clone();
    const rest = this.sheet.mask.clone();
    for (let i = 0; i < rest.pixels.length; i++) if (moving.pixels[i]) rest.pixels[i] = 0;
    this.drag = { handle, from: point, moving, rest, box: moving.bounds(), centre: moving.centroid() };
  }

  move(points, { shift }) {
    if (!this.drag || !this.drag.box) return;
    this.apply(this.changeOf(points[points.length - 1], shift));
  }

  up() {
    const changed = this.drag !== null;
    this.drag = null;
    return changed ? 'Lesion changed' : null;
  }

  cancel() {
    this.drag = null;
  }

  /** Change what is selected at once, as the keys do; `change` holds those of scaleX, scaleY, degrees, right, down that differ. */
  change(change) {
    this.begin({ x: 0, y: 0 }, 'key');
    if (this.drag.box) this.apply({ change: { ...IDENTITY, ...change }, centre: this.drag.centre });
    this.drag = null;
  }

  /** What dragging the handle to `point` means: the transformation, and the point (in pixel indices) about which it is. */
  changeOf(point, shift) {
    const { handle, from, box, centre } = this.drag;
    if (handle === 'inside') {
      return { centre, change: { ...IDENTITY, right: Math.round(point.x - from.x), down: Math.round(point.y - from.y) } };
    }
    if (handle === 'turn') {
      const angle = (p) => Math.atan2(p.y - centre.y - 0.5, p.x - centre.x - 0.5);
      const degrees = ((angle(point) - angle(from)) * 180) / Math.PI;
      return { centre, change: { ...IDENTITY, degrees: shift ? Math.round(degrees / 15) * 15 : degrees } };
    }
    // A corner: the opposite one stays. Both sides keep their ratio, unless Shift is held.
    const fixed = { x: handle.includes('w') ? box.right : box.left, y: handle.includes('n') ? box.bottom : box.top };
    const factor = (to, was, length) => Math.max(LEAST_FACTOR, (to - was) / length);
    let scaleX = factor(point.x, fixed.x, handle.includes('w') ? box.left - box.right : box.right - box.left);
    let scaleY = factor(point.y, fixed.y, handle.includes('n') ? box.top - box.bottom : box.bottom - box.top);
    if (!shift) scaleX = scaleY = Math.max(scaleX, scaleY);
    return { centre: { x: fixed.x - 0.5, y: fixed.y - 0.5 }, change: { ...IDENTITY, scaleX, scaleY } };
  }

  apply({ change, centre }) {
    const { moving, rest } = this.drag;
    const moved = transform(moving, centre, change);
    const { mask } = this.sheet;
    const before = mask.bounds();
    for (let i = 0; i < mask.pixels.length; i++) mask.pixels[i] = rest.pixels[i] | moved.pixels[i];
    this.chosen = this.chosen ? moved : null;
    this.sheet.touch(before);
    this.sheet.touch(mask.bounds());
  }
}
