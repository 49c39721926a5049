// One request at a time, always for what the sliders say by then: a fast hand never queues up work.
(function () {
  let wanted = null, busySince = 0, again = 0, address = 0;
  const OWN = {"residual": "skip", "pre-norm residual": "skip", "dropout": "keep"};  // settings.py has them too
  const WORDS = {skip: "skip connection", keep: "kept activations"};
  const PATIENCE = 10000, POLL = 250, SETTLED = 300;  // milliseconds

  function send() {
    clearTimeout(again);
    busySince = performance.now();
    dash_clientside.set_props("request", {data: Object.assign({at: busySince}, wanted)});
  }

  function showInAddress() {
    clearTimeout(address);
    address = setTimeout(function () {
      history.replaceState(null, "", "?" + new URLSearchParams(wanted));
    }, SETTLED);
  }

  window.meanfieldExplorer = {
    wish: function (activation, weight_var, bias_var, anticorrelation, skip, keep, block) {
      const values = {activation, weight_var, bias_var, anticorrelation, skip, keep, block};
      if (Object.values(values).some((v) => v === null || v === undefined)) return;
      wanted = values;
      for (const name of ["skip", "keep"]) {
        const control = document.getElementById(name + "-control");
        if (control) control.hidden = OWN[block] !== name;
      }
      for (const name of ["weight_var", "bias_var", "anticorrelation", "skip", "keep"]) {
        dash_clientside.set_props(name + "-value", {children: String(values[name]).replace("-", "\u2212")});
        const words = WORDS[name] || name.replace("_", " ").replace("var", "variance");
        const thumb = document.querySelector("#" + name + " [role=slider]");
        if (thumb) thumb.setAttribute("aria-label", words);
        const box = thumb && thumb.closest(".control").querySelector("input[type=number]");
        if (box) box.setAttribute("aria-label", words + " as a number");
      }
      const busy = busySince > 0 && performance.now() - busySince < PATIENCE;
      if (!busy) send();
    },
    answered: function (answer) {
      if (!answer) return;
      busySince = 0;
      const current = Object.keys(wanted).every((name) => answer.settings[name] === wanted[name]);
      if (!current) return send();
      showInAddress();
      if (answer.pending) again = setTimeout(send, POLL);
    },
  };
})();
