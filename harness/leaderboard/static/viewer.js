/* The volumes of a run in NiiVue. The library and the volumes are classic scripts, so that a folder is enough. */
(function () {
  "use strict";

  var home = document.querySelector("[data-viewer]");
  if (!home) return;
  var form = home.querySelector("form");
  var status = home.querySelector("[data-viewer-status]");
  var canvas = document.getElementById("volume");
  var still = document.querySelector("[data-viewer-still]");
  var why = document.querySelector("[data-viewer-why]");
  var LAYERS = ["image", "reference", "prediction", "difference"];
  var COLOURS = {
    reference: [86, 180, 233],
    prediction: [230, 159, 0],
  };
  // By the values of the difference: missed, added, another class.
  var DIFFERENCE = { R: [0, 86, 230, 204], G: [0, 180, 159, 121], B: [0, 233, 0, 167], A: [0, 255, 255, 255], I: [0, 1, 2, 3] };
  var OPACITY = { image: 1, reference: 0.5, prediction: 0.5, difference: 0.9 };
  var viewer = null;
  var wanted = null; // the case that was asked for last: an earlier one that arrives later is not shown

  function stay(reason) {
    home.hidden = true;
    still.hidden = false;
    why.textContent = reason + " Blue, wide: the reference. Orange, narrow: the prediction.";
    document.documentElement.dataset.viewer = "still";
  }

  function load(address) {
    return new Promise(function (done, failed) {
      var script = document.createElement("script");
      script.src = address;
      script.addEventListener("load", done);
      script.addEventListener("error", function () {
        failed(new Error("The script " + address + " could not be loaded."));
      });
      document.head.appendChild(script);
    });
  }

  function oneColour(colour, label) {
    // Labels up to 65535 may occur; the last entry of a table stands for all above it.
    var map = { R: [], G: [], B: [], A: [], I: [], labels: [] };
    for (var i = 0; i < 256; i++) {
      var on = i > 0 && (label === null || label === i);
      map.R.push(colour[0]);
      map.G.push(colour[1]);
      map.B.push(colour[2]);
      map.A.push(on ? 255 : 0);
      map.I.push(i);
      map.labels.push("");
    }
    return map;
  }

  function layer(name) {
    return viewer.volumes[LAYERS.indexOf(name)];
  }

  function paint() {
    if (!viewer || viewer.volumes.length < LAYERS.length) return;
    var label = form.elements.label.value === "" ? null : Number(form.elements.label.value);
    Object.keys(COLOURS).forEach(function (name) {
      layer(name).setColormapLabel(oneColour(COLOURS[name], label));
    });
    LAYERS.forEach(function (name, place) {
      viewer.setOpacity(place, form.elements[name].checked ? OPACITY[name] : 0);
    });
    viewer.updateGLVolume();
  }

  function turn() {
    if (!viewer) return;
    var views = {
      multi: viewer.sliceTypeMultiplanar, axial: viewer.sliceTypeAxial,
      coronal: viewer.sliceTypeCoronal, sagittal: viewer.sliceTypeSagittal,
    };
    viewer.setSliceType(views[form.elements.view.value]);
  }

  function rise() {
    if (!viewer || !viewer.volumes.length) return;
    viewer.scene.crosshairPos[2] = Number(form.elements.height.value);
    viewer.drawScene();
  }

  function show() {
    var chosen = form.querySelector('[name="case"]:checked');
    wanted = chosen.value;
    status.textContent = "Loading…";
    var held = window.__volumes || {};
    return (held[wanted] ? Promise.resolve() : load(chosen.dataset.script)).then(function () {
      var parts = window.__volumes[chosen.value];
      return Promise.all(LAYERS.map(function (name) {
        return window.niivue.NVImage.loadFromBase64({ base64: parts[name], name: name + ".nii.gz" });
      }));
    }).then(function (volumes) {
      if (chosen.value !== wanted) return;
      viewer.volumes.slice().forEach(function (old) { viewer.removeVolume(old); });
      volumes.forEach(function (volume, place) {
        volume.opacity = 0;
        if (place === 0) { volume.cal_min = 0; volume.cal_max = 255; }
        if (LAYERS[place] === "difference") volume.setColormapLabel(DIFFERENCE);
        viewer.addVolume(volume);
      });
      turn();
      paint();
      centre(volumes[1]);
      status.textContent = chosen.dataset.detail + ".";
      document.documentElement.dataset.viewer = "drawn";
    });
  }

  function centre(reference) {
    // Where the reference has most voxels, as the still pictures do; the middle where it is empty.
    var dims = reference.hdr.dims;
    var sums = [new Float64Array(dims[1]), new Float64Array(dims[2]), new Float64Array(dims[3])];
    var at = 0;
    for (var z = 0; z < dims[3]; z++) {
      for (var y = 0; y < dims[2]; y++) {
        for (var x = 0; x < dims[1]; x++, at++) {
          if (reference.img[at]) { sums[0][x]++; sums[1][y]++; sums[2][z]++; }
        }
      }
    }
    var place = sums.map(function (sum) {
      var best = sum.indexOf(Math.max.apply(null, sum));
      return sum[best] ? best : Math.floor(sum.length / 2);
    });
    viewer.scene.crosshairPos = viewer.vox2frac(place, 0);
    form.elements.height.value = viewer.scene.crosshairPos[2];
    viewer.drawScene();
  }

  if (!document.createElement("canvas").getContext("webgl2")) {
    stay("This browser has no WebGL 2, so the pictures stay still.");
    return;
  }
  home.hidden = false;
  still.hidden = true;
  load(home.dataset.library).then(function () {
    viewer = new window.niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairWidth: 0.6, dragAndDropEnabled: false, isRadiologicalConvention: true,
      logLevel: "error", loadingText: "", multiplanarShowRender: 0,
    });
    viewer.setInterpolation(true);
    viewer.onLocationChange = function () {
      form.elements.height.value = viewer.scene.crosshairPos[2];
    };
    return viewer.attachToCanvas(canvas);
  }).then(show).then(function () {
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.addEventListener("input", function (event) {
      var name = event.target.name;
      if (name === "case") show().catch(failed);
      else if (name === "view") turn();
      else if (name === "height") rise();
      else paint();
    });
  }).catch(failed);

  function failed(error) {
    stay("The volumes could not be drawn: " + error.message);
  }
})();
