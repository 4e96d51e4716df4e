// One history for strokes, changes and what the server put on the canvas.
import { Mask } from './mask.js';

const LIMIT = 100;

/** The masks that were drawn, each packed: 32 KiB of 512 x 512 pixels. */
export class History {
  constructor(mask) {
    this.states = [mask.pack()];
    this.index = 0;
  }

  get canUndo() {
    return this.index > 0;
  }

  get canRedo() {
    return this.index < this.states.length - 1;
  }

  /** Note a new mask; what was undone before is forgotten. Returns whether it differs from the last one. */
  push(mask) {
    const state = mask.pack();
    const last = this.states[this.index];
    if (state.bits === last.bits && state.width === last.width && state.height === last.height) return false;
    this.states = [...this.states.slice(Math.max(0, this.index + 2 - LIMIT), this.index + 1), state];
    this.index = this.states.length - 1;
    return true;
  }

  /** The mask as it is in the history now. */
  get current() {
    return Mask.unpack(this.states[this.index]);
  }

  /** Go back one step, and return that mask; null if there is none. */
  undo() {
    if (!this.canUndo) return null;
    this.index -= 1;
    return this.current;
  }

  /** Go forward one step, and return that mask; null if there is none. */
  redo() {
    if (!this.canRedo) return null;
    this.index += 1;
    return this.current;
  }
}
