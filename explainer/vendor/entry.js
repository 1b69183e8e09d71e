// The marks that the explainer uses; the rest of Observable Plot is left out of the bundle.
export { arrow, barX, barY, dot, frame, line, plot, ruleX, ruleY, text } from "@observablehq/plot";
