// A lesion mask in the browser: one byte a pixel, 1 at the lesion. `pack` and `unpack` are the form in which it travels; the server's
// half is siamese/masks/packed.py.

/** Pixels of a drawing, row by row, 1 at the lesion and 0 elsewhere. */
export class Mask {
  constructor(width, height, pixels = new Uint8Array(width * height)) {
    this.width = width;
    this.height = height;
    this.pixels = pixels;
  }

  /** The mask of `{width, height, bits}`: bits are packed eight to a byte, the first in the highest bit, as base64. */
  static unpack({ width, height, bits }) {
    const bytes = atob(bits);
    const mask = new Mask(width, height);
    const { pixels } = mask;
    for (let i = 0; i < pixels.length; i++) pixels[i] = (bytes.charCodeAt(i >> 3) >> (7 - (i & 7))) & 1;
    return mask;
  }

  /** The inverse of `unpack`. */
  pack() {
    const { pixels } = this;
    const bytes = new Uint8Array((pixels.length + 7) >> 3);
    for (let i = 0; i < pixels.length; i++) if (pixels[i]) bytes[i >> 3] |= 128 >> (i & 7);
    let text = '';
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
    return { width: this.width, height: this.height, bits: btoa(text) };
  }

  clone() {
    return new Mask(this.width, this.height, this.pixels.slice());
  }

  /** Take the pixels of a mask of the same size. */
  copyFrom(other) {
    this.pixels.set(other.pixels);
  }

  equals(other) {
    if (this.width !== other.width || this.height !== other.height) return false;
    for (let i = 0; i < this.pixels.length; i++) if (this.pixels[i] !== other.pixels[i]) return false;
    return true;
  }

  /** Number of pixels of the lesion. */
  count() {
    let sum = 0;
    for (const pixel of this.pixels) sum += pixel;
    return sum;
  }

  isEmpty() {
    return !this.pixels.includes(1);
  }

  at(x, y) {
    return x >= 0 && y >= 0 && x < this.width && y < this.height ? this.pixels[y * this.width + x] : 0;
  }

  /** The rectangle around the lesion, `{left, top, right, bottom}` with right and bottom outside of it; null if it is empty. */
  bounds() {
    const { width, height, pixels } = this;
    let left = width;
    let right = 0;
    let top = height;
    let bottom = 0;
    for (let y = 0; y < height; y++) {
      const first = pixels.indexOf(1, y * width) - y * width;
      if (first < 0 || first >= width) continue;
      const last = pixels.lastIndexOf(1, (y + 1) * width - 1) - y * width;
      left = Math.min(left, first);
      right = Math.max(right, last + 1);
      top = Math.min(top, y);
      bottom = y + 1;
    }
    return right > left ? { left, top, right, bottom } : null;
  }

  /** The mean position of the lesion's pixels, in pixel indices; null if it is empty. */
  centroid() {
    let count = 0;
    let x = 0;
    let y = 0;
    for (let row = 0, i = 0; row < this.height; row++) {
      for (let column = 0; column < this.width; column++, i++) {
        if (this.pixels[i]) {
          count += 1;
          x += column;
          y += row;
        }
      }
    }
    return count ? { x: x / count, y: y / count } : null;
  }

  /** Nearest-neighbour resize: the pixel at the centre of each new one, as the server's `resize_mask`. */
  resized(width, height) {
    if (width === this.width && height === this.height) return this.clone();
    const out = new Mask(width, height);
    for (let y = 0; y < height; y++) {
      const row = Math.floor(((y + 0.5) * this.height) / height) * this.width;
      for (let x = 0; x < width; x++) {
        out.pixels[y * width + x] = this.pixels[row + Math.floor(((x + 0.5) * this.width) / width)];
      }
    }
    return out;
  }
}

/** The smallest rectangle around two; either may be null. */
export function union(a, b) {
  if (!a || !b) return a || b;
  return {
    left: Math.min(a.left, b.left),
    top: Math.min(a.top, b.top),
    right: Math.max(a.right, b.right),
    bottom: Math.max(a.bottom, b.bottom),
  };
}
