// Where the drawing lies in its square on the page: zoom and position, in CSS pixels.

const MOST = 40;

/** Zoom and position of a drawing of `width` x `height` pixels in a square of `side` CSS pixels. */
export class View {
  constructor(width, height, side) {
    this.side = side;
    this.resize(width, height);
  }

  /** The drawing has another size: show it whole. */
  resize(width, height) {
    this.width = width;
    this.height = height;
    this.fit();
  }

  /** CSS pixels of a pixel of the drawing if it is shown whole. */
  get whole() {
    return this.side / Math.max(this.width, this.height);
  }

  fit() {
    this.scale = this.whole;
    this.x = (this.side - this.width * this.scale) / 2;
    this.y = (this.side - this.height * this.scale) / 2;
  }

  /** The square on the page has another size: zoom and centre stay. */
  setSide(side) {
    const factor = side / this.side;
    this.side = side;
    this.scale *= factor;
    this.x *= factor;
    this.y *= factor;
  }

  /** Zoom by `factor` about a point of the square, which stays under the pointer. */
  zoomAt(point, factor) {
    const scale = Math.min(MOST, Math.max(this.whole, this.scale * factor));
    const ratio = scale / this.scale;
    this.x = point.x - (point.x - this.x) * ratio;
    this.y = point.y - (point.y - this.y) * ratio;
    this.scale = scale;
    this.clamp();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.clamp();
  }

  /** A drawing larger than the square covers it; a smaller one is in its middle. */
  clamp() {
    const place = (offset, length) => {
      const room = this.side - length;
      return room >= 0 ? room / 2 : Math.min(0, Math.max(room, offset));
    };
    this.x = place(this.x, this.width * this.scale);
    this.y = place(this.y, this.height * this.scale);
  }

  /** From the square's CSS pixels to the drawing's pixels. */
  toMask(point) {
    return { x: (point.x - this.x) / this.scale, y: (point.y - this.y) / this.scale };
  }

  /** From the drawing's pixels to the square's CSS pixels. */
  toScreen(point) {
    return { x: point.x * this.scale + this.x, y: point.y * this.scale + this.y };
  }
}
