// Draws the point clouds of a report: every <figure class="cloud"> of cloud.html, when it comes near the window.
// Browsers drop WebGL contexts beyond about eight a page, so that one hidden renderer draws for all figures.
import {
  BufferAttribute, BufferGeometry, PerspectiveCamera, Points, Scene, ShaderMaterial, Vector3, WebGLRenderer,
} from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";

import { bytes, metres, scoreText, spacing, summary, trimmed } from "./part.mjs";

const FIELD = 20; // degrees, height of the field of view
const FROM = new Vector3(0, -0.75, 1).normalize(); // first look: from above, the image upright
const COVER = 1.8; // diameter of a point in spacings: neighbours overlap, so that a surface looks closed
const RADIUS = 10; // of every part in the scene: OrbitControls takes moves below 0.001 for none
const FADE = 110; // ms in which a turn that was let go fades to a third
const REACH = 5; // pixels around the pointer in which a point is found
const SCROLLED = 300; // ms after a scroll of the page in which the wheel goes on scrolling it instead of zooming
const NO_WEBGL = "This browser has no WebGL, which the 3D view needs. The pictures of the report show the same parts.";

const VERTEX = `
attribute vec3 photo;
attribute vec3 heat;
uniform float hot;
uniform float size;
varying vec3 colour;
void main() {
  vec4 place = modelViewMatrix * vec4(position, 1.0);
  colour = mix(photo, heat, hot);
  gl_Position = projectionMatrix * place;
  gl_PointSize = clamp(size / -place.z, 1.5, 64.0);
}`;
const FRAGMENT = `
varying vec3 colour;
void main() {
  vec2 off = gl_PointCoord - 0.5;
  if (dot(off, off) > 0.25) discard;
  gl_FragColor = vec4(colour, 1.0);
}`;

/** The only WebGL context of the page; draws views one after the other, each into its own 2D canvas. */
class Stage {
  constructor(canvas, context) {
    this.renderer = new WebGLRenderer({ canvas, context, alpha: true });
    this.renderer.setClearColor(0, 0);
    this.scene = new Scene();
    this.waiting = new Set();
    this.drawn = new Set();
    canvas.addEventListener("webglcontextrestored", () => this.drawn.forEach((view) => this.request(view)));
  }

  /** Draws a view with the next frame; there are no frames while nothing changes. */
  request(view) {
    if (this.waiting.size === 0) requestAnimationFrame(() => this.frame());
    this.waiting.add(view);
  }

  frame() {
    const views = [...this.waiting];
    this.waiting.clear();
    views.forEach((view) => this.draw(view));
  }

  draw(view) {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [view.canvas.clientWidth * ratio, view.canvas.clientHeight * ratio].map(Math.round);
    if (width === 0 || height === 0) return;
    view.prepare(width, height);
    const { domElement } = this.renderer;
    if (domElement.width !== width || domElement.height !== height) this.renderer.setSize(width, height, false);
    this.scene.clear();
    this.scene.add(view.cloud);
    this.renderer.render(this.scene, view.camera);
    if (view.canvas.width !== width) view.canvas.width = width;
    if (view.canvas.height !== height) view.canvas.height = height;
    view.context.clearRect(0, 0, width, height);
    view.context.drawImage(domElement, 0, 0);
    view.figure.dataset.drawn = view.part.count;
    this.drawn.add(view);
  }
}

/** One figure: the parts it can show, the one it shows, its camera and its buttons. */
class View {
  constructor(figure, stage) {
    this.figure = figure;
    this.stage = stage;
    this.canvas = figure.querySelector("canvas");
    this.readout = figure.querySelector(".readout");
    this.context = this.canvas.getContext("2d");
    this.parts = JSON.parse(figure.querySelector("script.clouds").textContent);
    this.camera = new PerspectiveCamera(FIELD);
    this.camera.up.set(0, 0, 1);
    this.camera.position.copy(FROM);
    const uniforms = { hot: { value: 1 }, size: { value: 1 } };
    this.material = new ShaderMaterial({ vertexShader: VERTEX, fragmentShader: FRAGMENT, uniforms });
    this.height = 1;
    this.last = 0;
    this.steer();
    this.tools();
    this.choose(0);
    new ResizeObserver(() => this.fit(this.direction())).observe(this.canvas);
  }

  /** Mouse, touch and keys. A finger that moves up or down scrolls the page, any other way it turns the part. */
  steer() {
    this.controls = new OrbitControls(this.camera, this.canvas);
    this.controls.zoomToCursor = true;
    this.controls.addEventListener("change", () => this.stage.request(this));
    this.canvas.style.touchAction = "pan-y";
    this.canvas.addEventListener("dblclick", () => this.reset());
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerdown", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => (this.readout.hidden = true));
    const turns = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    this.canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (turns[event.key]) {
        this.controls.rotateLeft(turns[event.key][0]);
        this.controls.rotateUp(turns[event.key][1]);
      } else if (event.key === "+") this.controls.dollyIn(1.15);
      else if (event.key === "-") this.controls.dollyOut(1.15);
      else if (event.key === "0" || event.key === "Home") this.reset();
      else return;
      event.preventDefault();
    });
  }

  tools() {
    const bar = this.figure.querySelector(".tools");
    const captions = this.parts.map((part) => part.caption);
    if (captions.length > 1) bar.append(choice("Part", captions, (index) => this.choose(index)));
    bar.append(
      choice("Colours", ["heat map", "photo"], (index) => {
        this.material.uniforms.hot.value = 1 - index;
        this.stage.request(this);
      }),
      Object.assign(document.createElement("span"), { textContent: "height" }),
      choice("Height", ["1x", "3x", "10x"], (index) => this.stretch([1, 3, 10][index])),
      button("reset view", () => this.reset()),
    );
  }

  choose(index) {
    this.part = this.parts[index];
    this.cloud?.geometry.dispose();
    const geometry = new BufferGeometry();
    const places = metres(this.part);
    geometry.setAttribute("position", new BufferAttribute(places, 3));
    geometry.setAttribute("photo", new BufferAttribute(bytes(this.part.colours), 3, true));
    geometry.setAttribute("heat", new BufferAttribute(bytes(this.part.heat), 3, true));
    this.score = bytes(this.part.score);
    this.box = trimmed(places);
    this.unit = RADIUS / (this.box.getSize(new Vector3()).length() / 2 || 1);
    this.spacing = spacing(places, this.box) * this.unit;
    this.cloud = new Points(geometry, this.material);
    this.cloud.frustumCulled = false;
    this.figure.querySelector(".shown").textContent = summary(this.part, this.box);
    this.stretch(this.height);
  }

  /** Heights `times` as high about the middle of the part, which stays in the origin. */
  stretch(times) {
    this.height = times;
    const middle = this.box.getCenter(new Vector3());
    this.cloud.scale.set(1, 1, times).multiplyScalar(this.unit);
    this.cloud.position.copy(middle).multiply(this.cloud.scale).negate();
    this.cloud.updateMatrixWorld();
    this.fit(this.direction());
  }

  direction() {
    return this.camera.position.clone().sub(this.controls.target);
  }

  reset() {
    this.fit(FROM);
  }

  /** Looks at the middle of the part along `direction`, from where the whole part is just in view. */
  fit(direction) {
    const towards = direction.clone().normalize();
    this.controls.enableDamping = false;
    this.controls.update(); // spends what is left of the last turn
    this.controls.target.set(0, 0, 0);
    this.camera.position.copy(towards);
    this.controls.update();
    this.camera.updateMatrixWorld();
    const size = this.box.getSize(new Vector3()).multiply(this.cloud.scale).multiplyScalar(0.5);
    const up = Math.tan((FIELD * Math.PI) / 360);
    const across = (up * (this.canvas.clientWidth || 1)) / (this.canvas.clientHeight || 1);
    const turned = this.camera.matrixWorldInverse;
    let distance = 0;
    for (let corner = 0; corner < 8; corner++) {
      const at = new Vector3(...[1, 2, 4].map((bit, axis) => (corner & bit ? 1 : -1) * size.getComponent(axis)));
      at.transformDirection(turned).multiplyScalar(size.length());
      distance = Math.max(distance, at.z + Math.max(Math.abs(at.x) / across, Math.abs(at.y) / up));
    }
    this.radius = Math.max(size.length(), RADIUS);
    distance = Math.max(distance * 1.04, RADIUS / 10);
    [this.controls.minDistance, this.controls.maxDistance] = [RADIUS / 50, distance * 5];
    this.camera.position.copy(towards).multiplyScalar(distance);
    this.controls.update();
    this.controls.enableDamping = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.stage.request(this);
  }

  /** Brings camera and size of the points up to date, before a frame of this size in pixels. */
  prepare(width, height) {
    const now = performance.now();
    const passed = Math.min(now - this.last, 100); // ms; a turn fades as fast where frames are slow
    this.last = now;
    this.controls.dampingFactor = 1 - Math.exp(-passed / FADE);
    this.controls.update();
    const distance = this.camera.position.length();
    this.camera.aspect = width / height;
    this.camera.near = Math.max(distance - 3 * this.radius, RADIUS / 200);
    this.camera.far = distance + 3 * this.radius;
    this.camera.updateProjectionMatrix();
    const diameter = COVER * this.spacing * this.height ** 0.35; // what is stretched gapes on its slopes
    this.material.uniforms.size.value = (diameter * height) / (2 * Math.tan((FIELD * Math.PI) / 360));
  }

  /** Shows the score below the pointer, unless a button is held down and the part is being turned. */
  point(event) {
    const found = event.buttons && event.type === "pointermove" ? -1 : this.nearest(event.offsetX, event.offsetY);
    this.readout.hidden = found < 0;
    if (found < 0) return;
    const { text, above } = scoreText(this.part, this.score[found]);
    this.readout.textContent = text;
    this.readout.classList.toggle("above", above);
    const left = Math.min(event.offsetX + 14, this.canvas.clientWidth - this.readout.offsetWidth - 4);
    this.readout.style.transform = `translate(${left}px, ${Math.max(event.offsetY - 34, 4)}px)`;
  }

  /** Index of the point seen at x, y in CSS pixels: of those in reach the nearest to the eye; -1 where there is none. */
  nearest(x, y) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const all = this.camera.projectionMatrix.clone().multiply(this.camera.matrixWorldInverse);
    const e = all.multiply(this.cloud.matrixWorld).elements;
    const place = this.cloud.geometry.attributes.position.array;
    const seen = [];
    for (let at = 0; at < place.length; at += 3) {
      const [a, b, c] = [place[at], place[at + 1], place[at + 2]];
      const w = e[3] * a + e[7] * b + e[11] * c + e[15];
      if (w <= 0) continue;
      const dx = ((e[0] * a + e[4] * b + e[8] * c + e[12]) / w + 1) * 0.5 * width - x;
      const dy = (1 - (e[1] * a + e[5] * b + e[9] * c + e[13]) / w) * 0.5 * height - y;
      const off = dx * dx + dy * dy;
      if (off <= REACH * REACH) seen.push([w, off, at / 3]);
    }
    const front = seen.reduce((least, [w]) => Math.min(least, w), Infinity) + 4 * this.spacing;
    const facing = seen.filter(([w]) => w <= front);
    return facing.reduce((best, one) => (one[1] < best[1] ? one : best), [0, Infinity, -1])[2];
  }
}

function button(text, act) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: text, title: text });
  made.addEventListener("click", act);
  return made;
}

/** A row of buttons of which one is pressed, the first to begin with. */
function choice(name, texts, act) {
  const group = document.createElement("div");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", name);
  const press = (chosen) => [...group.children].forEach((one, at) => one.setAttribute("aria-pressed", at === chosen));
  texts.forEach((text, index) => group.append(button(text, () => (press(index), act(index)))));
  press(0);
  return group;
}

function start() {
  const figures = [...document.querySelectorAll("figure.cloud")];
  const canvas = document.createElement("canvas");
  const context = figures.length ? canvas.getContext("webgl2", { alpha: true, antialias: false }) : null;
  for (const figure of figures) {
    const instead = figure.querySelector(".instead");
    if (context) instead.hidden = true;
    else instead.textContent = NO_WEBGL;
    figure.classList.toggle("ready", context !== null);
  }
  if (!context) return;
  let scrolled = -Infinity;
  addEventListener("scroll", () => (scrolled = performance.now()), { passive: true });
  const passing = (event) => {
    if (performance.now() - scrolled < SCROLLED && event.target.matches?.("figure.cloud canvas")) event.stopPropagation();
  };
  addEventListener("wheel", passing, { capture: true, passive: true });
  const stage = new Stage(canvas, context);
  const near = new IntersectionObserver((entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      near.unobserve(target);
      new View(target, stage);
    }
  }, { rootMargin: "300px" });
  figures.forEach((figure) => near.observe(figure));
}

start();
