"""Pictures. The only package that imports Matplotlib."""

from meanfield.plotting.boundaries import HATCHES as HATCHES
from meanfield.plotting.colours import LINE_COLOURS as LINE_COLOURS
from meanfield.plotting.colours import PHASE_COLOURS as PHASE_COLOURS
from meanfield.plotting.colours import STATUS_COLOURS as STATUS_COLOURS
from meanfield.plotting.comparison import plot_comparison as plot_comparison
from meanfield.plotting.figures import FORMATS as FORMATS
from meanfield.plotting.figures import checked_style as checked_style
from meanfield.plotting.figures import line_style as line_style
from meanfield.plotting.figures import plain_log_ticks as plain_log_ticks
from meanfield.plotting.figures import write_picture as write_picture
from meanfield.plotting.phase_diagrams import QUANTITIES as QUANTITIES
from meanfield.plotting.phase_diagrams import checked_quantity as checked_quantity
from meanfield.plotting.phase_diagrams import phase_diagram_figure as phase_diagram_figure
from meanfield.plotting.phase_diagrams import plot_phase_diagram as plot_phase_diagram
from meanfield.plotting.spectra import plot_lyapunov_spectrum as plot_lyapunov_spectrum
from meanfield.plotting.spectra import plot_spectrum as plot_spectrum
from meanfield.plotting.spectra import spectrum_title as spectrum_title
from meanfield.plotting.trainability import plot_trainability as plot_trainability
from meanfield.plotting.training import plot_training_study as plot_training_study
