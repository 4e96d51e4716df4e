// What lies above the drawing and is not part of it: the curve of a lasso, the handles of the selection, the ring of the brush.
import { CORNERS } from './selection.js';

const SVG = 'http://www.w3.org/2000/svg';
const KNOB = 26;

/** Draws into the stage's `svg` element, and moves its `ring` element. */
export class Overlay {
  constructor(stage) {
    this.svg = stage.querySelector('.overlay');
    this.ring = stage.querySelector('.ring');
    // Each line is drawn twice, dark below bright, so that it is seen on every ground.
    this.sketchLines = ['under', 'over'].map((name) => this.add('path', `sketch ${name}`));
    this.frameLines = ['under', 'over'].map((name) => this.add('path', `frame ${name}`));
    this.handles = new Map(CORNERS.map((corner) => [corner, this.handle(corner, 'rect')]));
    this.handles.set('turn', this.handle('turn', 'circle'));
  }

  add(kind, classes) {
    const element = document.createElementNS(SVG, kind);
    element.setAttribute('class', classes);
    this.svg.append(element);
    return element;
  }

  /** A visible handle, and an invisible larger one that is easier to hit with a finger. */
  handle(name, kind) {
    const group = this.add('g', `handle ${name}`);
    const seen = document.createElementNS(SVG, kind);
    const area = document.createElementNS(SVG, 'circle');
    for (const [key, value] of Object.entries(kind === 'rect' ? { x: -6, y: -6, width: 12, height: 12, rx: 2 } : { r: 7 })) seen.setAttribute(key, value);
    area.setAttribute('r', 18);
    area.setAttribute('class', 'area');
    for (const part of [seen, area]) part.dataset.handle = name;
    group.append(seen, area);
    return group;
  }

  /** Show the shape that a tool is drawing, in pixels of the drawing; null for none. */
  sketch(shape, view) {
    let path = '';
    if (shape?.kind === 'lasso') {
      path = `M${shape.points.map((point) => place(view.toScreen(point))).join('L')}Z`;
    } else if (shape?.kind === 'ellipse') {
      const [x, y] = [shape.radiusX * view.scale, shape.radiusY * view.scale];
      const { x: cx, y: cy } = view.toScreen(shape.centre);
      path = `M${cx - x} ${cy}a${x} ${y} 0 1 0 ${2 * x} 0a${x} ${y} 0 1 0 ${-2 * x} 0Z`;
    }
    for (const line of this.sketchLines) line.setAttribute('d', path);
  }

  /** Show the handles about `box` in pixels of the drawing; null for none. */
  select(box, view) {
    for (const group of this.handles.values()) group.style.display = box ? '' : 'none';
    if (!box) {
      for (const line of this.frameLines) line.setAttribute('d', '');
      return;
    }
    const { x: left, y: top } = view.toScreen({ x: box.left, y: box.top });
    const { x: right, y: bottom } = view.toScreen({ x: box.right, y: box.bottom });
    const middle = (left + right) / 2;
    const knob = top - KNOB > 8 ? top - KNOB : Math.min(bottom + KNOB, view.side - 10);
    const frame = `M${left} ${top}H${right}V${bottom}H${left}ZM${middle} ${knob < top ? top : bottom}V${knob}`;
    for (const line of this.frameLines) line.setAttribute('d', frame);
    const inside = (value) => Math.min(view.side - 8, Math.max(8, value));
    const places = { nw: [left, top], ne: [right, top], se: [right, bottom], sw: [left, bottom], turn: [middle, knob] };
    for (const [name, [x, y]] of Object.entries(places)) {
      this.handles.get(name).setAttribute('transform', `translate(${inside(x)} ${inside(y)})`);
    }
  }

  /** Show the brush's ring of `diameter` CSS pixels at `point` of the square; null hides it. */
  hover(point, diameter) {
    this.ring.style.display = point && diameter ? '' : 'none';
    if (!point || !diameter) return;
    if (this.diameter !== diameter) {
      this.diameter = diameter;
      this.ring.style.width = this.ring.style.height = `${diameter}px`;
    }
    this.ring.style.transform = `translate(${point.x - diameter / 2}px, ${point.y - diameter / 2}px)`;
  }
}

function place({ x, y }) {
  return `${x.toFixed(1)} ${y.toFixed(1)}`;
}
