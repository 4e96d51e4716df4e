// The drawing with all that belongs to it: mask, history, view, tools. It is what tools, pointers, keys and buttons act on.
import { holes } from './components.js';
import { History } from './history.js';
import { union } from './mask.js';
import { Overlay } from './overlay.js';
import { Painter } from './painter.js';
import { Selection } from './selection.js';
import { Brush, Ellipse, Lasso } from './tools.js';
import { View } from './view.js';

export const BRUSH_SIZES = { least: 1, most: 200 };
const RING_PIXELS = 12;
const PHOTO_OPACITY = 0.45;
const DRAWING_BLEND = 0.3; // so that one sees what one draws

/**
 * Args:
 *   stage: the square element with the canvas.
 *   mask: what is drawn at first.
 *   listeners: `changed(mask, text)` after each step of the history; `settled()` after all that changes buttons; `ring()` if a stroke
 *     closed a ring.
 */
export class Sheet {
  constructor(stage, mask, listeners) {
    this.stage = stage;
    this.listeners = listeners;
    this.mask = mask;
    this.history = new History(mask);
    this.view = new View(mask.width, mask.height, stage.clientWidth || 1);
    this.painter = new Painter(stage.querySelector('canvas'), mask, this.view);
    this.overlay = new Overlay(stage);
    this.selection = new Selection(this);
    this.tools = {
      lasso: new Lasso(this),
      brush: new Brush(this, 1),
      eraser: new Brush(this, 0),
      ellipse: new Ellipse(this),
      move: this.selection,
      pan: 'pan',
    };
    this.brushSize = 28;
    this.spaceHeld = false;
    this.dirty = null;
    this.frame = 0;
    this.choose('lasso');
    new ResizeObserver(() => this.fitStage()).observe(stage);
    this.fitStage();
  }

  /** The square has got its size, or another one. */
  fitStage() {
    const side = this.stage.clientWidth;
    if (!side) return; // its tab is hidden
    this.view.setSide(side);
    this.painter.setSide(side, window.devicePixelRatio || 1);
    this.viewChanged();
  }

  choose(name) {
    this.toolName = name;
    this.stage.dataset.tool = name;
    if (name !== 'move') this.selection.reset();
    this.hover(null);
    this.showSelection();
    this.listeners.settled?.();
  }

  /** The tool of a gesture: Space pans; a pen's other end erases. */
  toolFor(event) {
    if (this.spaceHeld) return 'pan';
    return event.pointerType === 'pen' && event.buttons & 32 ? this.tools.eraser : this.tools[this.toolName];
  }

  // ---- A gesture

  begin() {
    this.before = this.mask.clone();
    if (this.painter.image && this.painter.blend > DRAWING_BLEND) this.setBlend(DRAWING_BLEND);
  }

  /** A tool has changed the mask inside `rect`. */
  touch(rect) {
    this.dirty = union(this.dirty, rect);
  }

  sketch(shape) {
    this.shape = shape;
    this.sketched = true;
  }

  /** The gesture is over; `text` says what it did, null: nothing. */
  finish(text) {
    const closed = text === 'Painted' && holes(this.mask).count() >= Math.max(RING_PIXELS, holes(this.before).count() + 1);
    this.paintSoon();
    this.showSelection();
    if (text !== null) this.note(text);
    if (closed) this.listeners.ring();
  }

  /** The gesture does not count: the mask is as before. */
  abandon() {
    this.mask.copyFrom(this.before);
    this.selection.reset();
    this.repaint();
  }

  // ---- Changes of the whole mask

  /** Replace the mask by another one of any size, as one step of the history. */
  replace(mask, text) {
    this.show(mask);
    this.note(text);
  }

  /** Put `mask` on the canvas; the history stays. */
  show(mask) {
    const resized = mask.width !== this.mask.width || mask.height !== this.mask.height;
    this.mask = mask;
    this.selection.reset();
    if (resized) this.view.resize(mask.width, mask.height);
    this.painter.setMask(mask);
    this.showSelection();
    this.viewChanged();
  }

  /** Change the mask by `change(mask)`, a function that returns a new one. */
  edit(change, text) {
    if (this.mask.isEmpty()) return this.listeners.refuse('Draw a lesion first: the canvas is empty.');
    const changed = change(this.mask);
    if (changed.isEmpty()) return this.listeners.refuse('Nothing would be left of the lesion, so it stays as it is.');
    return this.replace(changed, text);
  }

  undo() {
    this.goTo(this.history.undo(), 'Undone');
  }

  redo() {
    this.goTo(this.history.redo(), 'Done again');
  }

  goTo(mask, text) {
    if (!mask) return;
    this.show(mask);
    this.listeners.changed(this.mask, text);
    this.listeners.settled();
  }

  /** A step is complete: note it in the history and tell the page, if the mask is another one. */
  note(text) {
    if (this.history.push(this.mask)) this.listeners.changed(this.mask, text);
    this.listeners.settled();
  }

  /** Change what is selected, by the keys. */
  changeSelection(change, text) {
    if (this.mask.isEmpty()) return this.listeners.refuse('Draw a lesion first: the canvas is empty.');
    this.begin();
    this.selection.change(change);
    if (this.mask.isEmpty()) {
      this.abandon();
      return this.listeners.refuse('The lesion would leave the picture, so it stays as it is.');
    }
    return this.finish(text);
  }

  // ---- What is seen

  /** Show a photo (an image element) below the mask; null: none. */
  setPhoto(photo) {
    const had = this.painter.photo !== null;
    this.painter.photo = photo;
    if (had !== (photo !== null)) this.setOpacity(photo ? PHOTO_OPACITY : 0.85);
    else this.repaint();
  }

  /** Show a synthetic image (an image element) in the drawing's place, as far as `blend` says; null: none. */
  setImage(image, blend) {
    this.painter.image = image;
    this.setBlend(blend);
  }

  setBlend(blend) {
    this.painter.blend = blend;
    this.viewChanged();
    this.listeners.settled();
  }

  setOpacity(opacity) {
    this.painter.opacity = opacity;
    this.repaint();
    this.listeners.settled();
  }

  setOutlined(outlined) {
    this.painter.outlined = outlined;
    this.repaint();
    this.listeners.settled();
  }

  setHidden(hidden) {
    if (this.painter.hidden === hidden) return;
    this.painter.hidden = hidden;
    this.viewChanged();
  }

  setBrushSize(size) {
    this.brushSize = Math.min(BRUSH_SIZES.most, Math.max(BRUSH_SIZES.least, Math.round(size)));
    this.hover(this.pointer);
    this.listeners.settled();
  }

  /** Make the brush larger or smaller by a factor, by one pixel at least. */
  resizeBrush(factor) {
    const size = this.brushSize * factor;
    this.setBrushSize(factor > 1 ? Math.max(size, this.brushSize + 1) : Math.min(size, this.brushSize - 1));
  }

  hover(point) {
    this.pointer = point;
    const paints = this.toolName === 'brush' || this.toolName === 'eraser';
    this.overlay.hover(point, paints ? this.brushSize * this.view.scale : 0);
  }

  fitView() {
    this.view.fit();
    this.viewChanged();
  }

  viewChanged() {
    this.painter.paint(null);
    this.overlay.sketch(this.shape, this.view);
    this.showSelection();
    this.hover(this.pointer);
  }

  showSelection() {
    this.overlay.select(this.toolName === 'move' ? this.selection.box() : null, this.view);
  }

  /** The whole layer has changed. */
  repaint() {
    this.dirty = null;
    this.painter.refresh(null);
    this.viewChanged();
  }

  /** Paint what has changed in the next frame, however many events come before it. */
  paintSoon() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const { dirty } = this;
      this.dirty = null;
      if (dirty) {
        this.painter.refresh(dirty);
        this.painter.paint(dirty);
      }
      if (this.sketched) this.overlay.sketch(this.shape, this.view);
      this.sketched = false;
      if (this.toolName === 'move') this.showSelection();
    });
  }
}
