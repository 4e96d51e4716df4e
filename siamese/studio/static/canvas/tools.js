// The tools that draw. A tool gets the points of one gesture in pixels of the drawing: `down`, any number of `move`, then `up`; or
// `cancel`, if a second finger shows that the gesture is a zoom. A tool changes `sheet.mask` and says where by `sheet.touch(rect)`.
import { fillEllipse, fillPolygon, paintSegment } from './raster.js';

const LEAST_STEP = 0.7;

/** Brush, or eraser if `value` is 0. `sheet.brushSize` is the diameter in pixels of the drawing. */
export class Brush {
  constructor(sheet, value) {
    this.sheet = sheet;
    this.value = value;
  }

  down(point) {
    this.last = point;
    this.move([point]);
  }

  move(points) {
    for (const point of points) {
      this.sheet.touch(paintSegment(this.sheet.mask, this.last, point, this.sheet.brushSize / 2, this.value));
      this.last = point;
    }
  }

  up() {
    return this.value ? 'Painted' : 'Erased';
  }

  cancel() {}
}

/** A closed curve: what it goes round is filled; with Alt it is removed. */
export class Lasso {
  constructor(sheet) {
    this.sheet = sheet;
  }

  down(point, { alt }) {
    this.points = [point];
    this.value = alt ? 0 : 1;
    this.show();
  }

  move(points) {
    for (const point of points) {
      const last = this.points[this.points.length - 1];
      if (Math.hypot(point.x - last.x, point.y - last.y) >= LEAST_STEP) this.points.push(point);
    }
    this.show();
  }

  up() {
    this.sheet.sketch(null);
    if (this.points.length < 3) return null;
    this.sheet.touch(fillPolygon(this.sheet.mask, this.points, this.value));
    return this.value ? 'Filled' : 'Removed';
  }

  cancel() {
    this.sheet.sketch(null);
  }

  show() {
    this.sheet.sketch({ kind: 'lasso', points: this.points });
  }
}

/** An ellipse from corner to corner; with Shift a circle, with Alt it is removed. */
export class Ellipse {
  constructor(sheet) {
    this.sheet = sheet;
  }

  down(point, { alt }) {
    this.from = this.to = point;
    this.value = alt ? 0 : 1;
  }

  move(points, { shift }) {
    this.to = points[points.length - 1];
    if (shift) {
      const side = Math.max(Math.abs(this.to.x - this.from.x), Math.abs(this.to.y - this.from.y));
      this.to = {
        x: this.from.x + side * Math.sign(this.to.x - this.from.x),
        y: this.from.y + side * Math.sign(this.to.y - this.from.y),
      };
    }
    this.sheet.sketch({ kind: 'ellipse', ...this.shape() });
  }

  up() {
    this.sheet.sketch(null);
    const { centre, radiusX, radiusY } = this.shape();
    if (radiusX < 0.5 || radiusY < 0.5) return null;
    this.sheet.touch(fillEllipse(this.sheet.mask, centre, radiusX, radiusY, this.value));
    return this.value ? 'Ellipse placed' : 'Ellipse removed';
  }

  cancel() {
    this.sheet.sketch(null);
  }

  shape() {
    return {
      centre: { x: (this.from.x + this.to.x) / 2, y: (this.from.y + this.to.y) / 2 },
      radiusX: Math.abs(this.to.x - this.from.x) / 2,
      radiusY: Math.abs(this.to.y - this.from.y) / 2,
    };
  }
}
