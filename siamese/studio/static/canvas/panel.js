// The buttons, sliders and lines around the drawing.
import * as edits from './edits.js';
import { holes } from './components.js';
import { Mask } from './mask.js';
import { maskPng } from './png.js';

const TOAST_MILLISECONDS = 8000;
const longest = (mask) => Math.max(mask.width, mask.height);
/** What the buttons with `data-edit` do; the amounts are shares of the longer side. */
const EDITS = {
  grow: ['Grown', (mask) => edits.grow(mask, Math.max(1, Math.floor(longest(mask) / 100)))],
  shrink: ['Shrunk', (mask) => edits.shrink(mask, Math.max(1, Math.floor(longest(mask) / 100)))],
  smooth: ['Smoothed', (mask) => edits.smooth(mask, Math.max(2, Math.floor(longest(mask) / 60)))],
  fill: ['Holes filled', edits.fillHoles],
  largest: ['Largest lesion kept', edits.keepLargest],
  'flip-horizontal': ['Flipped', (mask) => edits.flip(mask, 'horizontal')],
  'flip-vertical': ['Flipped', (mask) => edits.flip(mask, 'vertical')],
};

export class Panel {
  /** `page.modelSize()` is the side of the model's masks in pixels. */
  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.toast = root.querySelector('.toast');
  }

  /** Make the buttons act on `sheet`. */
  connect(sheet) {
    this.sheet = sheet;
    const acts = {
      undo: () => sheet.undo(),
      redo: () => sheet.redo(),
      clear: () => sheet.replace(new Mask(sheet.mask.width, sheet.mask.height), 'Cleared'),
      fit: () => sheet.fitView(),
      'save-mask': () => this.saveMask(),
      'fill-ring': () => this.edit('fill'),
      'keep-ring': () => this.hideToast(),
    };
    this.root.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (!button) return;
      const { tool, act, edit } = button.dataset;
      if (tool) sheet.choose(tool);
      else if (edit) this.edit(edit);
      else acts[act]?.();
    });
    // The stage captures pointers; a press on the toast is not one on the drawing.
    for (const kind of ['pointerdown', 'wheel']) this.toast.addEventListener(kind, (event) => event.stopPropagation());
    const hide = this.root.querySelector('[data-act="hide"]');
    hide.addEventListener('pointerdown', () => sheet.setHidden(true));
    for (const kind of ['pointerup', 'pointerleave', 'pointercancel']) hide.addEventListener(kind, () => sheet.setHidden(false));
    const on = (name, kind, listener) => this.setting(name).addEventListener(kind, listener);
    on('size', 'input', (event) => sheet.setBrushSize(Number(event.target.value)));
    on('opacity', 'input', (event) => sheet.setOpacity(Number(event.target.value) / 100));
    on('blend', 'input', (event) => sheet.setBlend(Number(event.target.value) / 100));
    on('outline', 'change', (event) => sheet.setOutlined(event.target.checked));
    this.settle();
  }

  setting(name) {
    return this.root.querySelector(`[data-setting="${name}"]`);
  }

  edit(name) {
    this.hideToast();
    const [text, change] = EDITS[name];
    if (name === 'fill' && !this.sheet.mask.isEmpty() && holes(this.sheet.mask).isEmpty()) {
      this.show('The lesion has no holes.');
      return;
    }
    this.sheet.edit(change, text);
  }

  /** Show what is chosen now, and what can be done. */
  settle() {
    const { sheet, root } = this;
    if (!sheet) return;
    for (const button of root.querySelectorAll('button[data-tool]')) button.setAttribute('aria-pressed', String(button.dataset.tool === sheet.toolName));
    const empty = sheet.mask.isEmpty();
    root.querySelector('[data-act="undo"]').disabled = !sheet.history.canUndo;
    root.querySelector('[data-act="redo"]').disabled = !sheet.history.canRedo;
    root.querySelector('[data-act="clear"]').disabled = empty;
    this.setting('size').value = sheet.brushSize;
    this.setting('opacity').value = Math.round(sheet.painter.opacity * 100);
    this.setting('blend').value = Math.round(sheet.painter.blend * 100);
    this.setting('outline').checked = sheet.painter.outlined;
    this.put('size', `${sheet.brushSize} px`);
    this.put('opacity', `${Math.round(sheet.painter.opacity * 100)} %`);
    const { width, height } = sheet.mask;
    const share = (100 * sheet.mask.count()) / (width * height);
    const words = empty ? 'nothing is drawn' : share >= 1 ? `lesion ${Math.round(share)} %` : 'lesion less than 1 %';
    this.put('size-of-mask', `${width} × ${height} pixels, ${words}`);
  }

  put(name, text) {
    this.root.querySelector(`[data-shown="${name}"]`).textContent = text;
  }

  /** Have a screen reader say what has happened. */
  say(text) {
    this.root.querySelector('.said').textContent = text;
  }

  /** A line above the drawing for some seconds; with `asks`, with the two answers to "Fill it?". */
  show(text, asks = false) {
    this.toast.querySelector('.toast-text').textContent = text;
    for (const button of this.toast.querySelectorAll('button')) button.hidden = !asks;
    this.toast.hidden = false;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.hideToast(), TOAST_MILLISECONDS);
  }

  hideToast() {
    clearTimeout(this.timer);
    this.toast.hidden = true;
  }

  /** Download the mask as a PNG at the model's size. */
  async saveMask() {
    const { mask } = this.sheet;
    if (mask.isEmpty()) {
      this.show('Draw a lesion first: the canvas is empty.');
      return;
    }
    const size = this.page.modelSize();
    const address = URL.createObjectURL(await maskPng(mask.resized(size, size)));
    const link = document.createElement('a');
    link.href = address;
    link.download = 'mask.png';
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }
}
