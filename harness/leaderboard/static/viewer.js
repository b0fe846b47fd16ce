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
  // Colour maps with one step per value; where a voxel is 0 the layer below is seen.
  var COLOURS = { reference: steps([[86, 180, 233]]), prediction: steps([[230, 159, 0]]) };
  COLOURS.difference = steps([[86, 180, 233], [230, 159, 0], [204, 121, 167]]); // missed, added, another class
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

  function steps(colours) {
    // Value n of N fills the n-th part of the map; see `clothe`, which spreads 1..N over it. Nothing is clear.
    var map = { R: [0], G: [0], B: [0], A: [0], I: [0] };
    colours.forEach(function (colour, n) {
      [n / colours.length, (n + 1) / colours.length].forEach(function (edge, last) {
        map.R.push(colour[0]);
        map.G.push(colour[1]);
        map.B.push(colour[2]);
        map.A.push(255);
        map.I.push(Math.max(1, Math.round(edge * 256) - (last ? 1 : 0)));
      });
    });
    return map;
  }

  function clothe(volume, name) {
    var most = (COLOURS[name].R.length - 1) / 2;
    volume.colormap = "board-" + name;
    volume.cal_min = 0.5;
    volume.cal_max = most + 0.5;
    volume.stored = volume.img;
  }

  function dress(volumes) {
    // One structure alone: the others are taken out of the reference and of the prediction, not of what differs.
    var label = form.elements.label.value === "" ? null : Number(form.elements.label.value);
    LAYERS.forEach(function (name, place) {
      var volume = volumes[place];
      volume.opacity = form.elements[name].checked ? OPACITY[name] : 0;
      if (name === "reference" || name === "prediction") {
        volume.img = Uint8Array.from(volume.stored, function (value) {
          return value !== 0 && (label === null || value === label) ? 1 : 0;
        });
        volume.hdr.datatypeCode = 2; // what the copy holds, also where the labels needed 16 bits
        volume.hdr.numBitsPerVoxel = 8;
      }
    });
  }

  function paint() {
    if (!viewer || viewer.volumes.length < LAYERS.length) return;
    dress(viewer.volumes);
    viewer.updateGLVolume();
  }

  function turn() {
    var views = {
      multi: viewer.sliceTypeMultiplanar, axial: viewer.sliceTypeAxial,
      coronal: viewer.sliceTypeCoronal, sagittal: viewer.sliceTypeSagittal,
    };
    viewer.opts.sliceType = views[form.elements.view.value];
    if (viewer.volumes.length) viewer.drawScene();
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
      volumes[0].cal_min = 0;
      volumes[0].cal_max = 255;
      Object.keys(COLOURS).forEach(function (name) { clothe(volumes[LAYERS.indexOf(name)], name); });
      dress(volumes);
      viewer.volumes = volumes.slice(0, 3);
      viewer.addVolume(volumes[3]); // draws all of them, once
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
      backColor: [0, 0, 0, 1], crosshairWidth: 0.5, crosshairColor: [1, 1, 1, 0.6], fontColor: [1, 1, 1, 1], dragAndDropEnabled: false, isRadiologicalConvention: true,
      logLevel: "error", loadingText: "", multiplanarShowRender: 0,
    });
    viewer.opts.isNearestInterpolation = true;
    Object.keys(COLOURS).forEach(function (name) { viewer.addColormap("board-" + name, COLOURS[name]); });
    viewer.onLocationChange = function () {
      form.elements.height.value = viewer.scene.crosshairPos[2];
    };
    turn();
    return viewer.attachToCanvas(canvas, false);
  }).then(show).then(function () {
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.elements.height.addEventListener("input", rise);
    form.addEventListener("change", function (event) {
      var name = event.target.name;
      if (name === "case") show().catch(failed);
      else if (name === "view") turn();
      else if (name !== "height") paint();
    });
  }).catch(failed);

  function failed(error) {
    stay("The volumes could not be drawn: " + error.message);
  }
})();
