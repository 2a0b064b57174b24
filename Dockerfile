# The graph on a ROS 2 of Ubuntu, built from this tree by the README's steps for a ROS 2 host:
#   docker build -t crossspec .                                     on Jazzy
#   docker build -t crossspec --build-arg BASE=ros:lyrical .        on Lyrical
#   docker run --rm crossspec crossspec demo --seconds 10
#   docker run --rm --network host --ipc host crossspec ros2 launch crossspec_ros vehicle.launch.py
ARG BASE=ros:jazzy
FROM ${BASE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /ros2_ws
# What is installed changes seldom, the code often: first what the installation is made of alone.
COPY package.xml requirements-host.txt src/crossspec_ros/
# RViz belongs on a desktop; git fetches nothing here, rosdep and pip do.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ python3-dev python3-pip \
    && rosdep update --rosdistro "${ROS_DISTRO}" \
    && rosdep install --from-paths src --ignore-src -y --rosdistro "${ROS_DISTRO}" --skip-keys rviz2 \
    && rm -rf /var/lib/apt/lists/*
# NumPy and OpenCV stay those of Ubuntu, for which ROS is compiled; the container is ours, so pip may install beside them.
RUN pip install --no-cache-dir --break-system-packages -r src/crossspec_ros/requirements-host.txt
COPY . src/crossspec_ros
RUN source "/opt/ros/${ROS_DISTRO}/setup.bash" \
    && colcon build --packages-select crossspec_ros \
    && source install/setup.bash \
    && python3 -c 'from crossspec_ros.events.warm import warm_up; warm_up()' \
    && sed -i '/^exec/i source /ros2_ws/install/setup.bash --' /ros_entrypoint.sh
CMD ["crossspec", "doctor"]
