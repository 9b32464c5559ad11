// What the page uses of its libraries, and nothing else.
export { default as dagre } from "@dagrejs/dagre";
export { bisector } from "d3-array";
export { scaleLinear } from "d3-scale";
export { select } from "d3-selection";
export { area, curveStepAfter, curveBasis, line } from "d3-shape";
export { zoom, zoomIdentity } from "d3-zoom";
