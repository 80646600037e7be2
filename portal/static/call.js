// Taking a call by keyboard. Enter in the search goes to what was found (or, when one machine fits, to the customer's words);
// Ctrl+Enter in the words sends the form. Without this file Enter in the search asks the server and loses nothing.
(function () {
  "use strict";
  if (window.callKeys) return;
  window.callKeys = true;
  document.addEventListener("keydown", function (event) {
    var form = event.target.closest && event.target.closest("[data-call]");
    if (!form || event.key !== "Enter") return;
    if (event.target.name === "q") {
      event.preventDefault();
      var chosen = form.querySelector("[name=serial]:checked"), first = form.querySelector("[name=serial]");
      (chosen ? form.elements.words : first || event.target).focus();
    } else if (event.target.type === "radio") {
      event.preventDefault();
      form.elements.words.focus();
    } else if (event.target.matches("[data-send]") && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit(form.querySelector("#next button"));
    }
  });
})();
