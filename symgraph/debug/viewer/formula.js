// Formulas: the part of LaTeX that symgraph writes, as MathML, which browsers show by themselves.

const SYMBOLS = {
  cdot: "\u22c5", ast: "\u2217", times: "\u00d7", ln: "ln", log: "log", sin: "sin", cos: "cos",
  tan: "tan", arcsin: "arcsin", arccos: "arccos", arctan: "arctan", sinh: "sinh", cosh: "cosh",
  tanh: "tanh", max: "max", min: "min", sum: "\u2211", prod: "\u220f", infty: "\u221e",
  le: "\u2264", ge: "\u2265", ne: "\u2260", land: "\u2227", lor: "\u2228", lnot: "\u00ac",
  oplus: "\u2295", ll: "\u226a", gg: "\u226b", bmod: "mod", lfloor: "\u230a", rfloor: "\u230b",
  lceil: "\u2308", rceil: "\u2309", sim: "\u223c", backslash: "\\", wedge: "^", leftarrow: "\u2190",
  alpha: "\u03b1", beta: "\u03b2", gamma: "\u03b3", delta: "\u03b4", epsilon: "\u03b5",
  zeta: "\u03b6", eta: "\u03b7", theta: "\u03b8", iota: "\u03b9", kappa: "\u03ba",
  lambda: "\u03bb", mu: "\u03bc", nu: "\u03bd", xi: "\u03be", pi: "\u03c0", rho: "\u03c1",
  sigma: "\u03c3", tau: "\u03c4", upsilon: "\u03c5", phi: "\u03c6", chi: "\u03c7", psi: "\u03c8",
  omega: "\u03c9", Gamma: "\u0393", Delta: "\u0394", Theta: "\u0398", Lambda: "\u039b",
  Xi: "\u039e", Pi: "\u03a0", Sigma: "\u03a3", Upsilon: "\u03a5", Phi: "\u03a6", Psi: "\u03a8",
  Omega: "\u03a9",
};
const MATHML = "http://www.w3.org/1998/Math/MathML";

// Gives a <math> element; `named(id)` gives the name for \node{id}.
function formulaElement(text, named) {
  const tokens = text.match(/\\[A-Za-z]+|\\.|[0-9]+(?:\.[0-9]+)?|[^\s]/gs) || [];
  let at = 0;
  const math = make("math", row("end"));
  math.setAttribute("display", "block");
  return math;

  function make(name, children, content) {
    const made = document.createElementNS(MATHML, name);
    if (content !== undefined) made.textContent = content;
    else made.append(...children);
    return made;
  }

  function row(end) {
    const parts = [];
    while (at < tokens.length && !ends(tokens[at], end)) parts.push(scripted());
    return parts.length === 1 ? [parts[0]] : [make("mrow", parts)];
  }

  function ends(token, end) {
    if (end === "}") return token === "}";
    if (end === "right") return token === "\\right";
    if (end === "cell") return token === "&" || token === "\\\\" || token === "\\end";
    return false;
  }

  function scripted() {
    const word = /^\\(operatorname|ln|log|sin|cos|tan|arc\w+|\w+h|sum|prod)$/.test(tokens[at] || "");
    const made = withScripts(atom());
    if (!word || at >= tokens.length || ["\\left", "(", "}", ",", "\\right"].includes(tokens[at])) return made;
    return make("mrow", [made, space("0.17em")]);
  }

  function withScripts(base) {
    let under = null, over = null;
    while (tokens[at] === "_" || tokens[at] === "^") {
      const place = tokens[at++];
      if (place === "_") under = atom();
      else over = atom();
    }
    if (under && over) return make("msubsup", [base, under, over]);
    if (under) return make("msub", [base, under]);
    return over ? make("msup", [base, over]) : base;
  }

  function atom() {
    const token = tokens[at++];
    if (token === undefined) return make("mrow", []);
    if (token === "{") return grouped();
    if (token[0] === "\\" && token.length > 1) return command(token.slice(1));
    if (/^[0-9]/.test(token)) return make("mn", [], token);
    if (/^\p{L}$/u.test(token)) return make("mi", [], token);
    return make("mo", [], token === "-" ? "\u2212" : token);
  }

  function grouped() {
    const [inside] = row("}");
    at++;
    return inside;
  }

  function braced() { // plain text in braces
    let found = "";
    let depth = 0;
    while (at < tokens.length) {
      const token = tokens[at++];
      if (token === "{") depth++;
      else if (token === "}" && --depth === 0) break;
      else if (token === "\\backslash" || token === "\\wedge" || token === "\\sim") found += SYMBOLS[token.slice(1)];
      else found += token.replace(/^\\/, "");
    }
    return found;
  }

  function command(name) {
    if (name === "frac") return make("mfrac", [atom(), atom()]);
    if (name === "sqrt") return make("msqrt", [atom()]);
    if (name === "left") return fenced();
    if (name === "begin") return cases();
    if (name === "node") return reference();
    if (["operatorname", "mathrm", "text", "mathbf", "mathbin", "mathord"].includes(name)) {
      const word = make("mi", [], braced());
      word.setAttribute("mathvariant", "normal");
      return word;
    }
    if (name === "," || name === " ") return space("0.25em");
    if (name in SYMBOLS) return make(/^[a-z]{2,6}$/.test(SYMBOLS[name]) ? "mi" : "mo", [], SYMBOLS[name]);
    return make("mo", [], name.replace(/^\W$/, "$&"));
  }

  function space(width) {
    const made = make("mspace", []);
    made.setAttribute("width", width);
    return made;
  }

  function fenced() {
    const opening = tokens[at++];
    const inside = row("right");
    at++;
    const closing = tokens[at++];
    return make("mrow", [make("mo", [], opening), ...inside, make("mo", [], closing || "")]);
  }

  function cases() {
    braced(); // the name of the environment: there is only one
    const rows = [];
    let cells = [];
    while (at < tokens.length && tokens[at] !== "\\end") {
      cells.push(make("mtd", row("cell")));
      if (tokens[at] === "&") at++;
      else if (tokens[at] === "\\\\") {
        at++;
        rows.push(make("mtr", cells));
        cells = [];
      }
    }
    rows.push(make("mtr", cells));
    at++;
    braced();
    const table = make("mtable", rows);
    table.setAttribute("columnalign", "left");
    return make("mrow", [make("mo", [], "{"), table]);
  }

  function reference() {
    const id = Number(braced());
    const made = make("mtext", [], named(id));
    made.setAttribute("class", "ref");
    made.dataset.id = id;
    return made;
  }
}
